"""Rendered manifests, played on one machine: what the API server, controllers, kubelet, kube-proxy and DNS do for a
StatefulSet, done with network namespaces, mounts and processes.

A replica is a process in namespaces of its own (network, mounts, processes, host name), with the manifest's command,
environment, user, volumes, probes and end of life. What this does not know (a kind of volume, a source of a variable)
is an error and not left out. No limits of CPU and memory, and no seccomp.
"""
import contextlib
import copy
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import yaml

DOMAIN = "cluster.local"
CLONE_NEWNET = 0x40000000
# From a pod's change to what DNS says and to where kube-proxy sends.
PROPAGATION = 1.0
TICK = 0.05
SUBNET, NODE_IP = "10.244", "10.244.0.1"

libc = ctypes.CDLL(None, use_errno=True)


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def enter(namespace):
    """Takes the calling thread, and what it starts, into a network namespace."""
    with open(f"/run/netns/{namespace}") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")


def get(host, port, path, limit=2.0, headers=()):
    """Status and body. The calling thread is in the right namespace."""
    connection = http.client.HTTPConnection(host, port, timeout=limit)
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Fabric:
    """A node's network: a namespace with a bridge, on which hosts and pods have addresses."""

    def __init__(self):
        self.prefix, self.count, self.lock = f"shoal-{os.getpid()}-", 0, threading.Lock()
        self.node = self.prefix + "node"
        run("ip", "netns", "add", self.node)
        for command in (f"link add br0 type bridge", f"addr add {NODE_IP}/16 dev br0", "link set br0 up", "link set lo up"):
            run("ip", "-n", self.node, *command.split())

    def attach(self, name):
        """A namespace with an address that nobody had before."""
        with self.lock:
            self.count += 1
            index = self.count
        namespace, address = self.prefix + name, f"{SUBNET}.{1 + index // 250}.{1 + index % 250}"
        run("ip", "netns", "add", namespace)
        run("ip", "-n", self.node, "link", "add", f"v{index}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run("ip", "-n", self.node, "link", "set", f"v{index}", "master", "br0", "up")
        for command in (f"addr add {address}/16 dev eth0", "link set eth0 up", "link set lo up"):
            run("ip", "-n", namespace, *command.split())
        return namespace, address

    def detach(self, namespace):
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True)

    def close(self):
        for namespace in run("ip", "netns", "list").split():
            if namespace.startswith(self.prefix):
                self.detach(namespace)


class Volume:
    """A volume on the node's disk, made as the kubelet makes it."""

    @staticmethod
    def projected(folder, files, mode, group):
        """Files behind the link `..data`, which is exchanged in one step when they change."""
        os.makedirs(folder, exist_ok=True)
        version = os.path.join(folder, f"..{time.time_ns()}")
        os.mkdir(version)
        for name, content in files.items():
            path = os.path.join(version, name)
            with open(path, "wb") as file:
                file.write(content)
            os.chown(path, 0, group)
            # The group of the volume may read, whatever the mode says.
            os.chmod(path, mode | (0o440 if group else 0))
        os.chmod(version, 0o755)
        link = os.path.join(folder, "..data")
        before = os.path.realpath(link) if os.path.islink(link) else None
        os.symlink(os.path.basename(version), link + "_tmp")
        os.rename(link + "_tmp", link)
        for name in files:
            if not os.path.islink(os.path.join(folder, name)):
                os.symlink(os.path.join("..data", name), os.path.join(folder, name))
        if before:
            shutil.rmtree(before)

    @staticmethod
    def writable(folder, group, is_disk):
        os.makedirs(folder, exist_ok=True)
        if is_disk:  # with what a new file system has in it
            os.makedirs(os.path.join(folder, "lost+found"), 0o700, exist_ok=True)
        os.chown(folder, 0, group)
        os.chmod(folder, 0o2775 if group else 0o777)


# $1 the root, $2 whether it is read-only, $3 the host name, then lines `source target ro|rw` on standard input.
# What follows in "$@" is run with the root as `/`.
CONTAINER = r"""
set -e
root=$1 readonly=$2; hostname "$3"; shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
while read -r source target access; do
  mount --bind "$source" "$root$target"
  [ "$access" = rw ] || mount -o remount,bind,ro "$root$target"
done
[ "$readonly" = false ] || mount -o remount,bind,ro "$root"
exec chroot "$root" "$@" </dev/null
"""
# Of the machine, in each root: what a dynamically linked binary needs, which the image's static one does not.
SHARED = ("/usr", "/etc/ssl", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


class Pod:
    """One life of a replica."""

    def __init__(self, cluster, owner, name, template, claims):
        self.cluster, self.owner, self.name, self.claims = cluster, owner, name, claims
        self.labels = template["metadata"].get("labels", {})
        self.annotations = template["metadata"].get("annotations", {})
        self.spec = template["spec"]
        self.container, = self.spec["containers"]
        self.lock, self.ready, self.terminating, self.gone = threading.Lock(), False, False, threading.Event()
        self.was_ready, self.first_ready, self.metrics_when_ready = threading.Event(), None, ""
        self.faults, self.restarts, self.began, self.ready_since = [], 0, time.monotonic(), None
        self.life = cluster.next_life()
        self.folder = os.path.join(cluster.folder, "pods", f"{name}-{self.life}")
        self.namespace, self.ip = cluster.fabric.attach(f"{name}-{self.life}")
        self.child = self.pid = None
        self.memory_peak = 0

    def start(self):
        os.makedirs(self.folder)
        self.mounts = self.make_root()
        self.launch()
        self.prober = threading.Thread(target=self.probe, daemon=True)
        self.prober.start()

    # --- what the container gets

    def security(self, key, default=None):
        of_container = self.container.get("securityContext", {})
        return of_container.get(key, self.spec.get("securityContext", {}).get(key, default))

    def environment(self):
        fields = {"metadata.name": self.name, "metadata.namespace": self.cluster.namespace, "status.podIP": self.ip}
        found = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME": self.name}
        assert "envFrom" not in self.container, "envFrom is not known here"
        for variable in self.container.get("env", []):
            if "valueFrom" in variable:
                path = variable["valueFrom"]["fieldRef"]["fieldPath"]
                label = re.fullmatch(r"metadata\.labels\['(.*)'\]", path)
                value = self.labels.get(label[1], "") if label else fields[path]
            else:
                value = re.sub(r"\$\((\w+)\)", lambda name: found.get(name[1], name[0]), variable.get("value", ""))
            found[variable["name"]] = value
        return found

    def command(self):
        """The container's, or else the image's."""
        entry, words = self.cluster.image
        command, args = self.container.get("command"), self.container.get("args")
        return command + (args or []) if command else entry + (args if args is not None else words)

    def source(self, volume):
        """Where on the node a volume is, and whether it may be written."""
        group = self.spec.get("securityContext", {}).get("fsGroup", 0)
        folder = os.path.join(self.folder, "volumes", volume["name"])
        for kind, named in (("configMap", "name"), ("secret", "secretName")):
            if kind in volume:
                mode = volume[kind].get("defaultMode", 0o644)
                assert set(volume[kind]) <= {named, "defaultMode"}, volume
                Volume.projected(folder, self.cluster.files(kind, volume[kind][named]), mode, group)
                return folder, False
        if "persistentVolumeClaim" in volume:
            folder = os.path.join(self.cluster.folder, "disks", volume["persistentVolumeClaim"]["claimName"])
        else:
            assert "emptyDir" in volume, f"volume {volume} is not known here"
        Volume.writable(folder, group, "persistentVolumeClaim" in volume)
        return folder, True

    def make_root(self):
        root, lines = os.path.join(self.folder, "root"), []
        for folder in ("usr", "proc", "dev", "etc/ssl"):
            os.makedirs(os.path.join(root, folder))
        for link in ("bin", "lib", "lib64", "sbin"):
            os.symlink(f"usr/{link}", os.path.join(root, link))
        search = " ".join(f"{part}{DOMAIN}" for part in (f"{self.cluster.namespace}.svc.", "svc.", ""))
        own = {
            "etc/resolv.conf": f"nameserver {NODE_IP}\nsearch {search}\noptions ndots:5\n",
            "etc/hosts": f"127.0.0.1 localhost\n{self.ip} {self.name}\n",
        }
        for name in (*own, "shoal", *(path[1:] for path in SHARED if path.startswith("/dev/"))):
            with open(os.path.join(root, name), "w") as file:
                file.write(own.get(name, ""))
        lines += [f"{path} {path} {'rw' if path.startswith('/dev/') else 'ro'}" for path in SHARED]
        lines.append(f"{self.cluster.shoal} /shoal ro")
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        volumes |= {name: {"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in self.claims.items()}
        self.sources = {}
        for mount in self.container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            source, writable = self.source(volume)
            self.sources[mount["name"]] = (volume, source)
            os.makedirs(root + mount["mountPath"])
            writable = writable and not mount.get("readOnly", False)
            lines.append(f"{source} {mount['mountPath']} {'rw' if writable else 'ro'}")
        self.root = root
        return "\n".join(lines) + "\n"

    def launch(self):
        user, group = self.security("runAsUser", 0), self.security("runAsGroup", 0)
        assert not (self.security("runAsNonRoot") and user == 0), f"{self.name} would run as root"
        become = ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={group}"]
        extra = self.spec.get("securityContext", {}).get("fsGroup")
        become.append(f"--groups={extra}" if extra else "--clear-groups")
        if self.security("allowPrivilegeEscalation") is False:
            become.append("--no-new-privs")
        if "ALL" in self.security("capabilities", {}).get("drop", []):
            become += ["--bounding-set=-all", "--inh-caps=-all"]
        readonly = str(self.security("readOnlyRootFilesystem", False)).lower()
        command = ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
                   "sh", "-c", CONTAINER, "container", self.root, readonly, self.name, *become, *self.command()]
        logs = [open(os.path.join(self.folder, name), "a") for name in ("out", "err")]
        self.child = subprocess.Popen(command, env=self.environment(), stdin=subprocess.PIPE, stdout=logs[0], stderr=logs[1], text=True)
        for log in logs:
            log.close()
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.write(self.mounts)
            self.child.stdin.close()

    def process(self):
        """The container's first process, or none."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            children = open(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read().split()
            return int(children[0])
        return None

    # --- probes

    def port(self, port):
        if isinstance(port, int):
            return port
        return next(known["containerPort"] for known in self.container["ports"] if known["name"] == port)

    def passes(self, probe):
        at = probe["httpGet"]
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _ = get(self.ip, self.port(at["port"]), at.get("path", "/"), probe.get("timeoutSeconds", 1))
            return 200 <= status < 400
        return False

    def probe(self):
        """Startup first, and then readiness and liveness, each at its own pace."""
        enter(self.cluster.fabric.node)
        probes = {kind: self.container[kind + "Probe"] for kind in ("startup", "readiness", "liveness") if kind + "Probe" in self.container}
        began, failures, successes, started = time.monotonic(), {}, {}, "startup" not in probes
        due = {kind: began + probe.get("initialDelaySeconds", 0) for kind, probe in probes.items()}
        while not self.gone.is_set():
            now = time.monotonic()
            for kind, probe in probes.items():
                of_this_time = kind == "startup" if not started else kind != "startup"
                if not of_this_time or now < due[kind] or (self.terminating and kind != "readiness"):
                    continue
                due[kind] = now + probe.get("periodSeconds", 10)
                passed = self.passes(probe)
                failures[kind] = 0 if passed else failures.get(kind, 0) + 1
                successes[kind] = successes.get(kind, 0) + 1 if passed else 0
                failed = failures[kind] >= probe.get("failureThreshold", 3)
                if kind == "readiness":
                    if successes[kind] >= probe.get("successThreshold", 1):
                        self.becomes_ready()
                    elif failed:
                        self.ready = False
                elif failed and not self.terminating:
                    self.faults.append(f"{self.name}: its {kind} probe failed {failures[kind]} times")
                    self.kill()
                elif kind == "startup" and passed:
                    started = True
                    due = {kind: now for kind in probes}
            self.watch_process()
            self.gone.wait(TICK)

    def becomes_ready(self):
        if not self.was_ready.is_set():
            self.first_ready = time.monotonic() - self.began
            self.metrics_when_ready = self.scrape()
        if not self.ready:
            self.ready_since = time.monotonic()
        self.ready = True
        self.was_ready.set()

    def scrape(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return get(self.ip, self.port("metrics"), "/metrics")[1].decode()
        return ""

    def watch_process(self):
        with contextlib.suppress(OSError, StopIteration):
            lines = open(f"/proc/{self.process() or 0}/status").read().splitlines()
            self.memory_peak = max(self.memory_peak, next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")))
        if self.child.poll() is not None and not self.terminating:
            self.ready, self.restarts = False, self.restarts + 1
            self.faults.append(f"{self.name}: ended by itself with {self.child.returncode}: {self.last_words()}")
            self.gone.wait(1)
            if not self.terminating:
                self.launch()

    def last_words(self):
        return open(os.path.join(self.folder, "err")).read()[-600:]

    # --- the end

    def end(self):
        """Deletes the pod, in the order of the kubelet; returns when it is gone."""
        self.terminating, began = True, time.monotonic()
        grace = self.spec.get("terminationGracePeriodSeconds", 30)
        handler = self.container.get("lifecycle", {}).get("preStop", {})
        assert set(handler) <= {"sleep"}, f"preStop {handler} is not known here"
        time.sleep(min(grace, handler.get("sleep", {}).get("seconds", 0)))
        pid = self.process()
        if pid:
            os.kill(pid, signal.SIGTERM)
        try:
            code = self.child.wait(max(2.0, grace - (time.monotonic() - began)))
            if code:
                self.faults.append(f"{self.name}: ended with {code}: {self.last_words()}")
        except subprocess.TimeoutExpired:
            self.faults.append(f"{self.name}: had to be killed {grace} s after it was told to end")
        self.end_took = time.monotonic() - began
        self.kill()
        self.gone.set()
        self.prober.join()
        self.ready = False
        self.cluster.fabric.detach(self.namespace)

    def kill(self):
        pid = self.process()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.child and self.child.poll() is None:
            self.child.kill()
        if self.child:
            self.child.wait()

    def update(self, kind, name):
        """Lays the files of a ConfigMap or Secret out anew, if the pod mounts it."""
        named = {"configMap": "name", "secret": "secretName"}[kind]
        for volume, folder in self.sources.values():
            if volume.get(kind, {}).get(named) == name:
                mode, group = volume[kind].get("defaultMode", 0o644), self.spec.get("securityContext", {}).get("fsGroup", 0)
                Volume.projected(folder, self.cluster.files(kind, name), mode, group)


class StatefulSet:
    """Replicas with ordinals, as the controller keeps them."""

    def __init__(self, cluster, manifest):
        self.cluster, self.name, self.spec = cluster, manifest["metadata"]["name"], manifest["spec"]
        self.parallel = self.spec.get("podManagementPolicy", "OrderedReady") == "Parallel"
        self.pods, self.past = {}, []
        self.replicas = self.spec.get("replicas", self.least())

    def least(self):
        """What the autoscaler keeps to, if there is one."""
        for scaler in self.cluster.of("HorizontalPodAutoscaler"):
            target = scaler["spec"]["scaleTargetRef"]
            if (target["kind"], target["name"]) == ("StatefulSet", self.name):
                return scaler["spec"]["minReplicas"]
        return 1

    def create(self, ordinal):
        name = f"{self.name}-{ordinal}"
        claims = {claim["metadata"]["name"]: f"{claim['metadata']['name']}-{name}" for claim in self.spec.get("volumeClaimTemplates", [])}
        template = copy.deepcopy(self.spec["template"])
        template["metadata"]["labels"] |= {"apps.kubernetes.io/pod-index": str(ordinal), "statefulset.kubernetes.io/pod-name": name}
        pod = Pod(self.cluster, self, name, template, claims)
        self.pods[ordinal] = pod
        pod.start()

    def wait_available(self, ordinal, limit=60.0):
        """Until it is ready, and has been for as long as the manifest says."""
        pod, deadline = self.pods[ordinal], time.monotonic() + limit
        while not pod.ready or time.monotonic() - pod.ready_since < self.spec.get("minReadySeconds", 0):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{pod.name} is not ready after {limit} s: {pod.faults} {pod.last_words()}")
            time.sleep(TICK)

    def delete(self, ordinals):
        pods = [self.pods[ordinal] for ordinal in ordinals]
        together([pod.end for pod in pods])
        for ordinal in ordinals:
            self.past.append(self.pods.pop(ordinal))

    def scale(self, replicas):
        """Creates from the lowest up and deletes from the highest down, together or one by one."""
        missing = [ordinal for ordinal in range(replicas) if ordinal not in self.pods]
        surplus = sorted((ordinal for ordinal in self.pods if ordinal >= replicas), reverse=True)
        for ordinal in missing:
            self.create(ordinal)
            if not self.parallel:
                self.wait_available(ordinal)
        for ordinal in missing:
            self.wait_available(ordinal)
        for group in [surplus] if self.parallel else [[ordinal] for ordinal in surplus]:
            self.delete(group)

    def roll(self):
        """A rolling update: from the highest down, each when the one before it is available."""
        update = self.spec.get("updateStrategy", {})
        assert update.get("type", "RollingUpdate") == "RollingUpdate", update
        partition = update.get("rollingUpdate", {}).get("partition", 0)
        stamp = {"kubectl.kubernetes.io/restartedAt": str(time.time_ns())}
        self.spec["template"]["metadata"].setdefault("annotations", {}).update(stamp)
        for ordinal in sorted(self.pods, reverse=True):
            if ordinal >= partition:
                self.delete([ordinal])
                self.create(ordinal)
                self.wait_available(ordinal)


def together(works):
    """Does all at once; the first that failed is raised when all have ended."""
    failed = []

    def guarded(work):
        try:
            work()
        except BaseException as error:  # also a test that gives up within a thread
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


class Cluster:
    """The objects of a rendered overlay, and what runs of them."""

    def __init__(self, folder, fabric, rendered, shoal, image):
        self.folder, self.fabric, self.shoal, self.image = folder, fabric, shoal, image
        self.objects = [found for found in yaml.safe_load_all(rendered) if found]
        self.namespace = next(found["metadata"]["name"] for found in self.objects if found["kind"] == "Namespace")
        self.maps = {"configMap": {}, "secret": {}}
        for found in self.of("ConfigMap"):
            self.maps["configMap"][found["metadata"]["name"]] = {name: text.encode() for name, text in found["data"].items()}
        self.lives, self.lock = 0, threading.Lock()
        self.sets, self.endpoints, self.hosts = {}, {}, {}
        self.changes, self.over = [], threading.Event()
        for found in self.of("StatefulSet"):
            self.sets[found["metadata"]["name"]] = StatefulSet(self, found)
        self.dns = self.start_dns()
        self.controller = threading.Thread(target=self.control, daemon=True)
        self.controller.start()

    def of(self, kind):
        return [found for found in self.objects if found["kind"] == kind]

    def files(self, kind, name):
        return self.maps[kind][name]

    def update(self, kind, name, files):
        """What `kubectl apply` of a changed ConfigMap comes to, some time later, in the pods."""
        self.maps[kind][name] = files
        for pod in self.pods():
            pod.update(kind, name)

    def next_life(self):
        with self.lock:
            self.lives += 1
            return self.lives

    def pods(self):
        return [pod for owner in self.sets.values() for pod in list(owner.pods.values())]

    def every_pod(self):
        return self.pods() + [pod for owner in self.sets.values() for pod in owner.past]

    # --- Services

    def selected(self, service):
        wanted = service["spec"].get("selector", {}).items()
        return [pod for pod in self.pods() if wanted <= pod.labels.items()]

    def observe(self):
        """What DNS and kube-proxy should know now."""
        records, endpoints = {}, {}
        for service in self.of("Service"):
            name, spec = service["metadata"]["name"], service["spec"]
            pods = self.selected(service)
            ready = [pod for pod in pods if pod.ready and not pod.terminating]
            endpoints[name] = {port["name"]: [(pod.ip, pod.port(port["targetPort"])) for pod in ready] for port in spec["ports"]}
            if spec.get("clusterIP") == "None":
                shown = pods if spec.get("publishNotReadyAddresses") else ready
                for pod in shown:
                    records.setdefault(pod.ip, []).append(f"{name}.{self.namespace}.svc.{DOMAIN}")
                    if pod.owner.spec["serviceName"] == name:
                        records[pod.ip].append(f"{pod.name}.{name}.{self.namespace}.svc.{DOMAIN}")
        return records, endpoints

    def control(self):
        """Makes known what changed, some time after it did."""
        enter(self.fabric.node)
        seen, policies = None, None
        while not self.over.wait(TICK):
            now = self.observe()
            if now != seen:
                seen = now
                self.changes.append((time.monotonic() + PROPAGATION, now))
            while self.changes and self.changes[0][0] <= time.monotonic():
                _, (records, self.endpoints) = self.changes.pop(0)
                self.tell_dns(records)
            with contextlib.suppress(subprocess.CalledProcessError):
                policies = self.enforce(policies)

    # --- DNS

    def start_dns(self):
        self.hosts_file = os.path.join(self.folder, "hosts")
        open(self.hosts_file, "w").close()
        command = ["ip", "netns", "exec", self.fabric.node, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                   "--user=root", f"--addn-hosts={self.hosts_file}", f"--local=/{DOMAIN}/", f"--listen-address={NODE_IP}", "--bind-interfaces", "--pid-file"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(os.path.join(self.folder, "dns.err"), "w"))

    def tell_dns(self, records):
        lines = [f"{ip} {' '.join(names)}" for ip, names in records.items()] + [f"{ip} {name}" for name, ip in self.hosts.items()]
        with open(self.hosts_file + ".new", "w") as file:
            file.write("\n".join(lines) + "\n")
        os.rename(self.hosts_file + ".new", self.hosts_file)
        self.dns.send_signal(signal.SIGHUP)

    # --- NetworkPolicies

    def enforce(self, before):
        """Rules for each pod, written anew when a pod came or went."""
        pods = {pod.namespace: pod for pod in self.pods() if not pod.gone.is_set()}
        if before == pods.keys():
            return before
        for namespace, pod in pods.items():
            rules = self.rules(pod, list(pods.values()))
            run("ip", "netns", "exec", namespace, "nft", "-f", "-", input=rules)
        return pods.keys()

    def rules(self, pod, pods):
        chains = {"Ingress": ["ct state established,related accept", "iif lo accept", f"ip saddr {NODE_IP} accept"],
                  "Egress": ["ct state established,related accept", "oif lo accept"]}
        policed = set()
        for policy in self.of("NetworkPolicy"):
            spec = policy["spec"]
            if not spec["podSelector"].get("matchLabels", {}).items() <= pod.labels.items():
                continue
            policed |= set(spec["policyTypes"])
            for way, side, match in (("Ingress", "from", "saddr"), ("Egress", "to", "daddr")):
                for rule in spec.get(way.lower(), []):
                    chains[way] += self.accepting(rule, side, match, pods)
        text = "table inet pods\ndelete table inet pods\ntable inet pods {\n"
        for way, hook in (("Ingress", "input"), ("Egress", "output")):
            verdict = "drop" if way in policed else "accept"
            body = "\n".join(f"    {line}" for line in chains[way])
            text += f"  chain {hook} {{\n    type filter hook {hook} priority 0; policy {verdict};\n{body}\n  }}\n"
        return text + "}\n"

    def accepting(self, rule, side, match, pods):
        """One rule of a policy as lines of nftables. Namespaces other than the pods' own have no pods here."""
        sources = [""]
        if side in rule:
            assert all(set(peer) <= {"podSelector", "namespaceSelector"} for peer in rule[side]), rule
            wanted = [peer["podSelector"].get("matchLabels", {}).items() for peer in rule[side] if set(peer) == {"podSelector"}]
            found = [pod.ip for pod in pods if any(labels <= pod.labels.items() for labels in wanted)]
            sources = [f"ip {match} {{ {', '.join(found)} }} "] if found else []
        lines = []
        for source in sources:
            for port in rule.get("ports", [None]):
                if port is None:
                    lines.append(f"{source}accept")
                    continue
                numbers = {port["port"]} if isinstance(port["port"], int) else {
                    known["containerPort"] for pod in pods for known in pod.container["ports"] if known["name"] == port["port"]}
                lines += [f"{source}{port['protocol'].lower()} dport {number} accept" for number in numbers]
        return lines

    def close(self):
        self.over.set()
        for pod in self.pods():
            pod.terminating = True
            pod.gone.set()
            with contextlib.suppress(Exception):
                pod.kill()
        self.dns.kill()
        self.dns.wait()
        self.controller.join()
