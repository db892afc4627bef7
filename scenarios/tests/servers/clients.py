"""Clients of a server on port $PORT of $HOST (or this host) that check every answer: `clients.py PROTOCOL`.

Every connection has a thread and is never made anew, but for those of `http_anew`. See `dormouse_testkit::server` for what the
test and the clients tell each other."""

import os, socket, struct, sys, threading, time

HOST, PORT = os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])
stop = threading.Event()
failures = []


class Connection:
    def __init__(self, number):
        self.number, self.answers, self.longest = number, 0, 0.0
        self.connect()

    def connect(self):
        self.asked = time.monotonic()
        deadline = time.monotonic() + 30
        while True:
            try:
                self.socket = socket.create_connection((HOST, PORT))
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def ask(self, request):
        self.asked = time.monotonic()
        self.socket.sendall(request)

    def got(self):
        """An answer has come."""
        now = time.monotonic()
        self.longest, self.asked = max(self.longest, now - self.asked), now
        self.answers += 1

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError(f"the connection ended after {line}")
        return line[:-2]

    def exactly(self, count):
        data = self.file.read(count)
        if len(data) != count:
            raise EOFError(f"the connection ended after {data}")
        return data


def expect(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r:.200} instead of {expected!r:.200}")


# Redis.


def command(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def reply(connection):
    kind, rest = (line := connection.line())[:1], line[1:]
    if kind == b"$":
        return connection.exactly(int(rest) + 2)[:-2]
    if kind == b"*":
        return [reply(connection) for _ in range(int(rest))]
    return line


def redis(connection):
    key, n = f"key{connection.number}", 0
    if connection.number == 0:
        # Messages come by themselves; another connection sends them.
        connection.ask(command("SUBSCRIBE", "channel"))
        expect(reply(connection), [b"subscribe", b"channel", b":1"])
        subscribed.set()
        while not stop.is_set():
            expect(reply(connection), [b"message", b"channel", b"%d" % n])
            connection.got()
            n += 1
        return
    subscribed.wait()
    while not stop.is_set():
        if connection.number == 1:
            connection.ask(command("PUBLISH", "channel", n))
            expect(reply(connection), b":1")
        else:
            value = b"%d;" % n * (3000 if n % 7 == 0 else 3)
            connection.ask(
                b"".join(command("INCR", key) for _ in range(10))
                + command("SET", key + "v", value)
                + command("GET", key + "v")
            )
            for i in range(10):
                expect(reply(connection), b":%d" % (n * 10 + i + 1))
            expect(reply(connection), b"+OK")
            expect(reply(connection), value)
        connection.got()
        n += 1
    if connection.number == 1:
        # The one who waits for messages is to hear of the end.
        connection.ask(command("PUBLISH", "channel", n))


subscribed = threading.Event()

# HTTP: a file, or how often the path was asked for.


def get(connection, path):
    connection.ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    expect(connection.line().split()[1], b"200")
    length = None
    while header := connection.line():
        name, value = header.split(b":", 1)
        if name.lower() == b"content-length":
            length = int(value)
    body = connection.exactly(length)
    connection.got()
    return body


def http_file(connection):
    body = open("index.html", "rb").read()
    while not stop.is_set():
        expect(get(connection, "/index.html"), body)


def http_count(connection):
    n = 0
    while not stop.is_set():
        n += 1
        expect(get(connection, f"/{connection.number}"), b"%d" % n * 50)


# Whatever comes goes back, a byte at a time or many.


def http_anew(connection):
    """Every request has a connection of its own, which the server ends."""
    path = b"/%d" % connection.number
    while not stop.is_set():
        connection.socket.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path)
        answer = connection.file.read()
        expect(answer.partition(b"\r\n\r\n")[2], path * 50)
        connection.got()
        connection.socket.close()
        connection.connect()
    # The server takes one connection after the other, and waits for each to ask or to end.
    connection.file.close()
    connection.socket.close()


def echo(connection):
    n = 0
    while not stop.is_set():
        n += 1
        line = b"%d," % n * (3000 if n % 5 == 0 else 2) + b"\r\n"
        connection.ask(line)
        expect(connection.exactly(len(line)), line)
        connection.got()


# memcached.


def memcached(connection):
    key, n = b"key%d" % connection.number, 0
    connection.ask(b"set %sn 0 0 1\r\n0\r\n" % key)
    expect(connection.line(), b"STORED")
    while not stop.is_set():
        n += 1
        value = b"%d," % n * (5000 if n % 5 == 0 else 5)
        connection.ask(
            b"set %s 7 0 %d\r\n%s\r\n" % (key, len(value), value)
            + b"incr %sn 1\r\nget %s\r\n" % (key, key)
        )
        expect(connection.line(), b"STORED")
        expect(connection.line(), b"%d" % n)
        expect(connection.line(), b"VALUE %s 7 %d" % (key, len(value)))
        expect(connection.exactly(len(value) + 2), value + b"\r\n")
        expect(connection.line(), b"END")
        connection.got()


# PostgreSQL: a transaction after the other, in a table of its own, and one of all.


def message(connection):
    kind, length = struct.unpack("!cI", connection.exactly(5))
    return kind, connection.exactly(length - 4)


def query(connection, sql):
    """The first column of what comes back."""
    connection.ask(struct.pack("!cI", b"Q", len(sql) + 5) + sql.encode() + b"\0")
    rows = []
    while (got := message(connection))[0] != b"Z":
        kind, body = got
        if kind == b"E":
            raise AssertionError(body)
        if kind == b"D":
            (length,) = struct.unpack("!i", body[2:6])
            rows.append(body[6 : 6 + length])
    connection.got()
    return rows


def postgres(connection):
    parameters = b"user\0postgres\0database\0postgres\0\0"
    deadline = time.monotonic() + 30
    while True:
        connection.ask(struct.pack("!II", len(parameters) + 8, 3 << 16) + parameters)
        while (kind := message(connection)[0]) not in (b"Z", b"E"):
            pass
        if kind == b"Z":
            break
        # It is still starting up.
        if time.monotonic() > deadline:
            raise AssertionError("no connection")
        time.sleep(0.05)
        connection.__init__(connection.number)
    query(connection, "CREATE TEMP TABLE own (n int, t text)")
    query(connection, f"CREATE TABLE t{connection.number} (n int)")
    n = 0
    while not stop.is_set():
        n += 1
        query(connection, "BEGIN")
        query(connection, f"INSERT INTO own VALUES ({n}, repeat('x', {n % 3000}))")
        query(connection, f"INSERT INTO t{connection.number} VALUES ({n})")
        expect(query(connection, "SELECT count(*) FROM own"), [b"%d" % n])
        query(connection, "COMMIT" if n % 5 else "END")
        found = query(connection, f"SELECT sum(n) FROM t{connection.number}")
        expect(found, [b"%d" % (n * (n + 1) // 2)])


def run(session, connection):
    try:
        session(connection)
    except Exception as failure:
        failures.append(f"connection {connection.number}: {failure!r}")
        stop.set()


def main():
    session, count = globals()[sys.argv[1]], int(sys.argv[2])
    connections = [Connection(number) for number in range(count)]
    threads = [threading.Thread(target=run, args=(session, c), daemon=True) for c in connections]
    for thread in threads:
        thread.start()
    while not os.path.exists("stop") and not failures:
        with open("answers.new", "w") as file:
            # Every connection has to get on.
            file.write(str(min(c.answers for c in connections) * count))
        os.rename("answers.new", "answers")
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join(30)
        if thread.is_alive():
            failures.append("a connection waits for an answer")
    answers, longest = sum(c.answers for c in connections), max(c.longest for c in connections)
    print(f"{answers} answers on {count} connections, none waited longer than {longest:.3f} s")
    if failures:
        sys.exit("\n".join(failures))


main()
