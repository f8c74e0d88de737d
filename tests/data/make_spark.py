"""How the folder `spark` was made, with Spark 4.3."""

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.master("local[2]").getOrCreate()
rows = spark.range(0, 1003).select(
    F.col("id"),
    (F.col("id") * 0.5).alias("x"),
    F.concat(F.lit("row "), F.col("id")).alias("name"),
    F.array([F.col("id") + step for step in range(3)]).alias("v"),
    F.expr("transform(sequence(0, cast(id % 5 as int)), x -> x * 1.5D)").alias("tokens"),
    F.when(F.col("id") % 100 == 7, None).otherwise(F.col("id")).alias("gaps"),
    F.when(F.col("id") % 2 == 0, "even").otherwise("odd").alias("kind"),
)
rows.repartitionByRange(3, "id").sortWithinPartitions("id").write.parquet("spark")
