"""The files of deploy/ are well-formed: YAML that parses, with commands that `octet serve` takes, ports that agree and what
the image needs for them; scripts without syntax errors. They are not run: that needs the clusters.

    deploy_test.py OCTET      exit code 77: there is no PyYAML
"""
import pathlib
import subprocess
import sys
import unittest

try:
    import yaml
except ImportError:
    print("skipped: no PyYAML (tests/requirements.txt)", file=sys.stderr)
    sys.exit(77)

DEPLOY = pathlib.Path(__file__).resolve().parents[1] / "deploy"
IMAGE = (DEPLOY / "Containerfile").read_text().split("\nFROM ")[-1]
OCTET = sys.argv.pop(1)


class Deploy(unittest.TestCase):
    def flags_are_known(self, words):
        known = subprocess.run([OCTET, "serve", "--help-all"], capture_output=True, text=True, check=False).stdout or \
            subprocess.run([OCTET, "serve", "--help"], capture_output=True, text=True, check=True).stdout
        for word in words[words.index("serve"):]:
            if word.startswith("--"):
                self.assertIn(word.split("=")[0].replace("_", "-"), known)

    def runs_as_the_images_user(self, *containers):
        self.assertIn("\nUSER octet\n", IMAGE)
        self.assertIn("useradd --uid 1000 --create-home octet", IMAGE)
        for container in containers:
            self.assertEqual(container["securityContext"],
                             {"runAsNonRoot": True, "runAsUser": 1000, "allowPrivilegeEscalation": False})

    def test_mpijob(self):
        job, service = yaml.safe_load_all((DEPLOY / "mpijob.yaml").read_text())
        self.assertEqual((job["apiVersion"], job["kind"]), ("kubeflow.org/v2beta1", "MPIJob"))
        launcher = job["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]
        command = launcher["spec"]["containers"][0]["command"]
        self.flags_are_known(command)
        ranks = 1 + job["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"]
        self.assertEqual(command[command.index("-n") + 1], str(ranks))
        self.assertEqual(service["spec"]["selector"], launcher["metadata"]["labels"])
        port = int(command[command.index("--port") + 1])
        self.assertEqual(launcher["spec"]["containers"][0]["readinessProbe"]["httpGet"], {"path": "/health", "port": port})
        self.assertEqual(service["spec"]["ports"], [{"port": port}])
        # Root is nowhere: the image's user has its ssh where the operator puts the keys.
        self.assertNotIn("--allow-run-as-root", command)
        self.assertEqual(job["spec"]["sshAuthMountPath"], "/home/octet/.ssh")
        worker = job["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
        self.assertIn(f"> {worker['command'][-1]}", IMAGE)
        self.runs_as_the_images_user(launcher["spec"]["containers"][0], worker)
        for words in "openssh-server", "HostKey /home/octet/.ssh/id_rsa", "Port 2222", "StrictModes no", "StrictHostKeyChecking no", "UserKnownHostsFile /dev/null":
            self.assertIn(words, IMAGE)

    def test_rayjob(self):
        job = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
        self.assertEqual((job["apiVersion"], job["kind"]), ("ray.io/v1", "RayJob"))
        words = job["spec"]["entrypoint"].split()
        self.flags_are_known(words)
        cluster = job["spec"]["rayClusterSpec"]
        workers = cluster["workerGroupSpecs"][0]
        self.assertEqual(words[words.index("--tp") + 1], str(1 + workers["replicas"]))
        head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
        port = int(words[words.index("--port") + 1])
        self.assertIn({"containerPort": port, "name": "http"}, head["ports"])
        # KubeRay starts the server when all pods are ready, by probes of its own.
        self.assertEqual(job["spec"]["submissionMode"], "K8sJobMode")
        self.runs_as_the_images_user(head, workers["template"]["spec"]["containers"][0])
        for container in head, workers["template"]["spec"]["containers"][0]:
            self.assertNotIn("readinessProbe", container)
        for words in " wget ", "PATH=/octet/build/release/ray/bin:":
            self.assertIn(words, IMAGE)
        self.assertIn("ray[default]", (DEPLOY.parent / "scripts/setup").read_text())

    def test_scripts(self):
        subprocess.run(["bash", "-n", DEPLOY / "slurm.sh"], check=True)


if __name__ == "__main__":
    unittest.main()
