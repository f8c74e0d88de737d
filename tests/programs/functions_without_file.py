"""A job whose functions have no file, as those of a notebook: functions_without_file.py EXPRESSION DATA OUTPUT."""

import sys

import runner

CODE = """
import os
import pathlib

import zoo

def double(rows):
    return {expression}

class Model:
    calls = 0

    def __call__(self, rows):
        self.calls += len(rows) > 1
        if os.path.exists("die") and self.calls > 40:
            zoo.await_commits(pathlib.Path("p.npy.run"), 3)
            os._exit(9)
        return rows

postprocess = lambda rows: double(rows)
"""

if __name__ == "__main__":
    expression, data, output = sys.argv[1:]
    main = sys.modules["__main__"]
    del main.__file__
    exec(compile(CODE.format(expression=expression), "<input>", "exec"), main.__dict__)
    options = {"data": data, "output": output, "batch_size": 2, "chunk_size": 4, "threads": 1}
    try:
        runner.predict(model=main.Model, postprocess=main.postprocess, **options)
    except Exception as error:
        print(error)
        sys.exit(getattr(error, "exit_code", 1))
