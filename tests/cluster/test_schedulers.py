"""The scripts of scripts/batch that are not Slurm's, on two hosts reached by ssh.

PBS's qsub and LSF's bsub are stand-ins; of kubernetes.yaml the command of the launcher is run.
"""

import json
import shutil
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from batch import SCRIPTS

HERE = Path(__file__).parent
RANKS = ["node1", "node1", "node2", "node2"]
SCHEMA = HERE.parent / "data/mpijob-v2beta1.schema.json"
TYPOS = {
    "apiVersion: kubeflow.org/v2beta1": "apiVersion: kubeflow.org/v1",
    "slotsPerWorker:": "slotPerWorker:",
    "  sshAuthMountPath:": "  sshMountPath:",
    "WaitForWorkersReady": "WaitForWorkers",
    "cleanPodPolicy: Running": "cleanPodPolicy: Run",
    "    Worker:": "    Workers:",
    "restartPolicy: Never": "restartPolicy: Always",
    "      replicas: 1": "      replicas: 2",
    "containers:": "container:",
    "claimName:": "name:",
    "- --bind-to": "- 1",
    "memory: 4Gi": "memory: 4GB",
    "# nvidia.com/gpu: 2": "nvidia.com/gpus: 2",
    "[ReadWriteMany]": "ReadWriteMany",
}


def mpi_job():
    """The second of the documents in kubernetes.yaml."""
    return list(yaml.safe_load_all((SCRIPTS / "kubernetes.yaml").read_text()))[1]


@pytest.mark.parametrize(("scheduler", "script"), [("qsub", "pbs.sh"), ("bsub", "lsf.sh")])
def test_a_script_that_submits_itself(hosts, job, tmp_path, scheduler, script):
    stand_in = tmp_path / scheduler
    shutil.copy(HERE / "pretend_scheduler.py", stand_in)
    stand_in.write_text(f"#!{sys.executable}\n{stand_in.read_text()}")
    stand_in.chmod(0o755)
    output = tmp_path / 'it\'s, "so" to $say.npy'
    env = {"RUNNER_VENV": job.venv(), "PATH": f"{tmp_path}:{job.env['PATH']}"}
    code, said = hosts.run("head", SCRIPTS / script, *job.arguments(output), **env)
    assert code == 0, said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == RANKS
    assert tomllib.loads(Path(f"{output}.run/config.toml").read_text())["time-limit"] == 3480


def test_mpirun_over_ssh(hosts, job, tmp_path):
    output = tmp_path / "predictions.npy"
    hostfile = SCRIPTS.parents[1] / "hostfiles/two-hosts"
    command = [SCRIPTS / "mpirun.sh", hostfile, *job.arguments(output)]
    code, said = hosts.run("head", *command, RUNNER_VENV=job.venv())
    assert code == 0, said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == RANKS


def test_the_launcher_of_kubernetes(hosts, job, tmp_path):
    """Its own words, with the operator's variables and hostfile, whose names ssh has never seen."""
    spec = mpi_job()["spec"]
    slots, workers = spec["slotsPerWorker"], spec["mpiReplicaSpecs"]["Worker"]["replicas"]
    names = [f"predict-worker-{i}.predict.default.svc" for i in range(workers)]
    with (hosts.folder / "hosts").open("a") as file:  # in place: it is the /etc/hosts of each
        file.writelines(f"10.231.0.{11 + i} {name}\n" for i, name in enumerate(names))
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("".join(f"{name} slots={slots}\n" for name in names))

    (tmp_path / "my_model.py").write_text((job.folder / "tiny_model.py").read_text())
    shutil.copy(job.folder / "rows.npy", tmp_path)
    save_tiny_model = (
        "import tiny_model; from safetensors.torch import save_model; save_model(tiny_model.build(), {!r})"
    )
    code, said = job.run(*job.python(), "-c", save_tiny_model.format(str(tmp_path / "weights.safetensors")))
    assert code == 0, said

    [launcher] = spec["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"]
    places = {"/opt/runner/.venv": sys.prefix, "/etc/mpi/hostfile": str(hostfile)}
    words = [*launcher["command"], *launcher["args"], *job.arguments(tmp_path)[6:]]
    for there, here in places.items():
        words = [str(word).replace(there, here) for word in words]
    variables = {
        "K_MPI_JOB_ROLE": "launcher",
        "OMPI_MCA_orte_keep_fqdn_hostnames": "true",
        "OMPI_MCA_orte_default_hostfile": str(hostfile),
        "OMPI_MCA_orte_set_default_slots": str(slots),
        "OMPI_MCA_plm_rsh_args": "-o ConnectionAttempts=10",
    }
    code, said = hosts.run("head", "env", "-C", tmp_path, *words, **variables, PATH="/usr/bin:/bin")
    assert code == 0, said
    assert (tmp_path / "predictions.npy").read_bytes() == job.expected
    assert job.hosts(tmp_path / "predictions.npy") == RANKS


def test_kubernetes_takes_the_fields_of_the_job_and_no_others():
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    documents = list(yaml.safe_load_all((SCRIPTS / "kubernetes.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["PersistentVolumeClaim", "MPIJob"]
    for document in documents:
        schema.validate(document)
    for old, new in TYPOS.items():
        text = (SCRIPTS / "kubernetes.yaml").read_text()
        assert text.count(old) >= 1, old
        spoilt = list(yaml.safe_load_all(text.replace(old, new, 1)))
        assert not all(schema.is_valid(document) for document in spoilt), new
