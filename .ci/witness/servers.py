"""The programs that read what Shoal forwards, each on a port of its own: nginx, HAProxy and Apache httpd in front of a strict reader, Node
and Python's h11 by themselves. What they change in requests by their own rules (paths made normal, fields dropped) is configured away."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
START_LIMIT = 20.0

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; server_tokens off;
  client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy; fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi; scgi_temp_path {folder}/nginx-scgi;
  upstream strict {{ server 127.0.0.1:{strict}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port};
    merge_slashes off; client_max_body_size 0; keepalive_requests 1000000;
    client_header_buffer_size 64k; large_client_header_buffers 8 128k;
    location / {{
      proxy_pass http://strict; proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Connection "";
      proxy_buffer_size 64k; proxy_buffers 4 64k; proxy_busy_buffers_size 128k;
    }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 4000
  tune.bufsize 262144
  tune.http.maxhdr 1000
defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend front
  bind 127.0.0.1:{port}
  default_backend strict
backend strict
  server strict 127.0.0.1:{strict}
"""

APACHE = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
ErrorLog {folder}/apache.log
LogLevel crit
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
User www-data
DefaultRuntimeDir {folder}
Timeout 10
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 5
LimitRequestFields 0
LimitRequestFieldSize 131072
LimitRequestLine 131072
AllowEncodedSlashes NoDecode
MergeSlashes Off
TraceEnable Extended
ProxyPreserveHost On
ProxyPass / http://127.0.0.1:{strict}/ nocanon
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Servers:
    """All of them, as `name -> port`. `python` is the interpreter that has h11."""

    def __init__(self, folder, python):
        self.folder, self.children = folder, []
        os.chmod(folder, 0o755)
        self.strict = self.printed([python, os.path.join(HERE, "echo.py"), "strict"])
        self.ports = {
            "nginx": self.configured("nginx", NGINX, lambda path: ["nginx", "-p", folder, "-c", path]),
            "haproxy": self.configured("haproxy", HAPROXY, lambda path: ["haproxy", "-db", "-q", "-f", path]),
            "apache": self.configured("apache", APACHE, lambda path: ["apache2", "-DFOREGROUND", "-f", path]),
            "node": self.printed(["node", os.path.join(HERE, "echo.mjs")]),
            "h11": self.printed([python, os.path.join(HERE, "echo.py"), "h11"]),
        }

    def spawn(self, command, **streams):
        # A group of its own, since Apache's workers are processes.
        child = subprocess.Popen(command, start_new_session=True, **streams)
        self.children.append(child)
        return child

    def printed(self, command):
        """Starts a program that prints its port."""
        child = self.spawn(command, stdout=subprocess.PIPE)
        line = child.stdout.readline()
        if not line:
            sys.exit(f"{command} did not start")
        return int(line)

    def configured(self, name, text, command):
        """Starts a program that is told its port."""
        port, path = free_port(), os.path.join(self.folder, f"{name}.conf")
        with open(path, "w") as file:
            file.write(text.format(folder=self.folder, port=port, strict=self.strict, modules="/usr/lib/apache2/modules"))
        child = self.spawn(command(path))
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline and child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return port
            except OSError:
                time.sleep(0.05)
        sys.exit(f"{name} did not start")

    def stop(self):
        for child in self.children:
            try:
                os.killpg(child.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + 5
        for child in self.children:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def versions():
    """What is installed, for the log."""
    for command in (["nginx", "-v"], ["haproxy", "-v"], ["apache2", "-v"], ["node", "--version"]):
        if shutil.which(command[0]):
            said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
            print(f"{command[0]}: {said.splitlines()[0]}")
