"""How `tensorflow.onnx` and `tensorflow.npz` were made, with TensorFlow 2.21 and tf2onnx 1.17."""

import numpy as np
import tensorflow as tf
import tf2onnx

tf.keras.utils.set_random_seed(0)
model = tf.keras.Sequential(
    [
        tf.keras.layers.Input((8, 8, 3)),
        tf.keras.layers.Conv2D(4, 3, activation="relu"),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(5, activation="softmax"),
    ]
)
call = tf.function(model, input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, name="rows")])
tf2onnx.convert.from_function(call, call.input_signature, opset=17, output_path="tensorflow.onnx")
rows = np.random.default_rng(0).random((41, 8, 8, 3)).astype("float32")
np.savez_compressed("tensorflow.npz", rows=rows, predictions=model.predict(rows, verbose=0))
