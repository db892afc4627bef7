//! Real servers with clients that check every answer, frozen and brought back ten times in a row
//! under load: no answer is lost or wrong, no connection breaks. See `dormouse_testkit::server`.
//!
//! `DORMOUSE_FREEZES=3` freezes each three times instead.

use std::path::Path;
use std::process::ExitCode;

use dormouse_testkit::program::Program;
use dormouse_testkit::server::{self, Server};

mod lacks;

const CLIENTS: (&str, &str) = ("clients.py", include_str!("servers/clients.py"));

/// A server with nothing special about it.
const PLAIN: Program = Program {
    name: "",
    tools: &["bash", "python3"],
    needs: &["tcp"],
    options: &["--tcp-established"],
    files: &[CLIENTS],
    prepare: "",
    script: "",
};

const SERVERS: &[Server] = &[
    // One event loop, threads in the background; pipelines, large values, publish and subscribe.
    Server {
        server: Program {
            name: "redis",
            tools: &["redis-server", "python3"],
            script: "exec redis-server --port $PORT --bind 127.0.0.1 --save '' --appendonly no \
                --daemonize no",
            ..PLAIN
        },
        clients: "python3 clients.py redis 12",
    },
    // A master and two workers that share the listening socket, with kept connections.
    Server {
        server: Program {
            name: "nginx",
            tools: &["nginx", "python3"],
            prepare: r#"
                seq 1 4000 > index.html
                mkdir tmp
                cat > nginx.conf << END
daemon off;
user root;
worker_processes 2;
pid nginx.pid;
error_log stderr;
events { worker_connections 256; }
http {
    access_log access.log;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
    uwsgi_temp_path tmp; scgi_temp_path tmp;
    keepalive_requests 1000000;
    sendfile on;
    server { listen 127.0.0.1:$PORT; root $PWD; }
}
END
            "#,
            script: "exec nginx -p $PWD -c nginx.conf -e stderr",
            ..PLAIN
        },
        clients: "python3 clients.py http_file 16",
    },
    // Threads with an event loop each, which hand connections over by eventfds or pipes.
    Server {
        server: Program {
            name: "memcached",
            tools: &["memcached", "python3"],
            script: "exec memcached -u root -l 127.0.0.1 -p $PORT -U 0 -t 4",
            ..PLAIN
        },
        clients: "python3 clients.py memcached 16",
    },
    // A process for each connection and some beside; shared memory, semaphores, signals, locks.
    Server {
        server: Program {
            name: "postgres",
            tools: &["psql", "setpriv", "python3"],
            options: &["--tcp-established", "--file-locks"],
            prepare: r#"
                chown nobody .
                bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
                setpriv --reuid nobody --clear-groups $bin/initdb -D data -A trust -U postgres \
                    --no-sync --no-locale -E UTF8
            "#,
            script: r#"
                bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
                exec setpriv --reuid nobody --clear-groups $bin/postgres -D data -p $PORT \
                    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off
            "#,
            ..PLAIN
        },
        clients: "python3 clients.py postgres 6",
    },
    // libuv.
    Server {
        server: Program {
            name: "node",
            tools: &["node", "python3"],
            files: &[
                CLIENTS,
                (
                    "server.js",
                    r#"
const counts = new Map();
const server = require('http').createServer((request, response) => {
    const count = (counts.get(request.url) ?? 0) + 1;
    counts.set(request.url, count);
    const body = String(count).repeat(50);
    response.writeHead(200, { 'Content-Length': body.length });
    response.end(body);
});
server.listen(Number(process.env.PORT), '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
"#,
                ),
            ],
            script: "exec node server.js",
            ..PLAIN
        },
        clients: "python3 clients.py http_count 16",
    },
    // A thread for each processor, and goroutines that wait for an epoll of all; listens by MPTCP.
    Server {
        server: Program {
            name: "go",
            tools: &["go", "python3"],
            files: &[
                CLIENTS,
                (
                    "server.go",
                    r#"
package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
)

func main() {
	var lock sync.Mutex
	counts := map[string]int{}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		lock.Lock()
		counts[r.URL.Path]++
		count := counts[r.URL.Path]
		lock.Unlock()
		fmt.Fprint(w, strings.Repeat(fmt.Sprint(count), 50))
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
"#,
                ),
            ],
            prepare: "GOCACHE=$PWD/.cache GO111MODULE=off go build -o server server.go",
            script: "exec ./server",
            ..PLAIN
        },
        clients: "python3 clients.py http_count 16",
    },
    // Takes one connection at a time, each for one answer: the others wait to be accepted.
    Server {
        server: Program {
            name: "http_server",
            files: &[
                CLIENTS,
                (
                    "server.py",
                    r#"
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode() * 50)

    def log_message(self, *_):
        pass

class Server(http.server.HTTPServer):
    request_queue_size = 64

Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#,
                ),
            ],
            tools: &["python3"],
            script: "exec python3 server.py",
            ..PLAIN
        },
        clients: "python3 clients.py http_anew 12",
    },
    // One connection, which goes through a process and two pipes, or through two.
    Server {
        server: Program {
            name: "socat",
            tools: &["socat", "python3"],
            script: "exec socat TCP-LISTEN:$PORT,bind=127.0.0.1,reuseaddr EXEC:cat,pipes",
            ..PLAIN
        },
        clients: "python3 clients.py echo 1",
    },
    Server {
        server: Program {
            name: "netcat",
            tools: &["nc", "python3"],
            prepare: "mkfifo back",
            script: "nc -l 127.0.0.1 $PORT < back | cat > back",
            ..PLAIN
        },
        clients: "python3 clients.py echo 1",
    },
    // The clients are on another host, as far as the kernel is concerned.
    Server {
        server: Program {
            name: "veth",
            tools: &["unshare", "python3"],
            files: &[
                CLIENTS,
                (
                    "server.py",
                    r#"
import os, selectors, socket

waiting = selectors.EpollSelector()
listener = socket.create_server(("10.97.0.1", int(os.environ["PORT"])), backlog=64)
waiting.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in waiting.select():
        if key.fileobj is listener:
            waiting.register(listener.accept()[0], selectors.EVENT_READ)
        elif data := key.fileobj.recv(1 << 16):
            key.fileobj.sendall(data)
        else:
            waiting.unregister(key.fileobj)
            key.fileobj.close()
"#,
                ),
            ],
            // Names of namespaces are files, which would outlive the test.
            prepare: "
                mkdir -p /run/netns
                mount -t tmpfs names /run/netns
                ip netns add peers
                ip link add here type veth peer name there netns peers
                ip address add 10.97.0.1/24 dev here
                ip link set here up
                ip -n peers address add 10.97.0.2/24 dev there
                ip -n peers link set there up
            ",
            script: "exec python3 server.py",
            ..PLAIN
        },
        clients: "env HOST=10.97.0.1 ip netns exec peers python3 clients.py echo 12",
    },
];

fn main() -> ExitCode {
    let scenario = Path::new(env!("CARGO_BIN_EXE_dormouse-scenario"));
    server::main(scenario, SERVERS, lacks::LACKS)
}
