//! Real programs, frozen and brought back while they work. See `dormouse_testkit::program`.
//!
//! `DORMOUSE_FREEZES=3` freezes each three times instead of ten.

use std::path::Path;
use std::process::ExitCode;

use dormouse_testkit::program::{self, Program};

mod lacks;

/// A program with nothing special about it.
const PLAIN: Program = Program {
    name: "",
    tools: &["bash"],
    needs: &[],
    options: &[],
    files: &[],
    prepare: "",
    script: "",
};

const PROGRAMS: &[Program] = &[
    // Threads, their pipes to the neighbours, 100 MB of memory that changes all the time.
    Program {
        name: "xz_pipeline",
        tools: &["xz", "seq", "sha256sum", "tee"],
        script: "seq 1 25000000 | xz -T2 -0 -c | tee >(wc -c >&2) | sha256sum",
        ..PLAIN
    },
    // Processes come and go; the shell waits for them.
    Program {
        name: "bash_pipeline",
        tools: &["bash", "sort", "awk", "seq"],
        script: r#"
            for i in $(seq 1 900); do
                seq $i 7 $((i * 40)) | sort -r | awk -v i=$i '{ s += $1 * i } END { print i, s }'
            done | while read -r a b; do echo "$((a + b % 1000003))"; done | sort -n
        "#,
        ..PLAIN
    },
    // A pool of processes fed by threads through pipes, with semaphores in shared memory.
    Program {
        name: "python_pool",
        tools: &["python3"],
        files: &[(
            "pool.py",
            r#"
import hashlib, multiprocessing, queue, threading

def work(n):
    h = hashlib.sha256(str(n).encode())
    for _ in range(60000):
        h.update(h.digest())
    return n, h.hexdigest()

if __name__ == "__main__":
    results = queue.Queue()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        def feed(part):
            for n in part:
                results.put(pool.apply(work, (n,)))
        threads = [threading.Thread(target=feed, args=(range(k, 240, 6),)) for k in range(6)]
        for t in threads: t.start()
        for t in threads: t.join()
    for n, digest in sorted(results.get() for _ in range(240)):
        print(n, digest)
"#,
        )],
        script: "exec python3 pool.py",
        ..PLAIN
    },
    // A transaction under way: a journal, temporary files without names, record locks.
    Program {
        name: "sqlite_transaction",
        tools: &["sqlite3"],
        needs: &["locks"],
        options: &["--file-locks", "--ghost-limit", "64M"],
        files: &[(
            "work.sql",
            r"
PRAGMA temp_store = FILE;
PRAGMA cache_size = 200;
CREATE TABLE numbers (n INTEGER PRIMARY KEY, square INTEGER, text TEXT);
BEGIN;
WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 400000)
    INSERT INTO numbers SELECT n, n * n, hex(n * 2654435761 % 1000000007) FROM count;
CREATE TEMP TABLE sorted AS SELECT text, count(*) AS c, sum(square) AS s FROM numbers GROUP BY text ORDER BY text;
CREATE INDEX by_text ON numbers (text);
UPDATE numbers SET square = square + 1 WHERE n % 3 = 0;
COMMIT;
SELECT count(*), sum(c), sum(s % 1000003) FROM sorted;
SELECT sum(square % 1000003), min(text), max(text) FROM numbers;
PRAGMA integrity_check;
",
        )],
        script: "exec sqlite3 work.db < work.sql",
        ..PLAIN
    },
    // A driver that waits for a compiler, which allocates a lot and talks to an assembler by a pipe.
    Program {
        name: "gcc",
        tools: &["gcc", "awk"],
        prepare: r#"
            awk 'BEGIN {
                for (i = 0; i < 1000; i++)
                    printf "int f%d(int a, int b) { int s = %d; for (int i = 0; i < b; i++) { s = s * 31 + (a ^ i); if (s %% 7 == %d) s -= a * b; } return s; }\n", i, i, i % 7
                printf "int main(void) { int s = 0;\n"
                for (i = 0; i < 1000; i++) printf "s += f%d(%d, s & 15);\n", i, i
                printf "return s & 127; }\n"
            }' > big.c
        "#,
        script: "gcc -O2 -pipe -frandom-seed=1 -c big.c -o big.o && cat big.o",
        ..PLAIN
    },
    // One process with children it talks to by pipes, and a file it appends to.
    Program {
        name: "perl",
        tools: &["perl"],
        files: &[(
            "work.pl",
            r#"
use strict; use warnings; $| = 1;
my (%sum, @readers);
for my $k (1 .. 3) {
    pipe(my $r, my $w) or die "pipe: $!";
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        my $x = $k;
        for my $i (1 .. 9_000_000) { $x = ($x * 1103515245 + 12345) & 0x7fffffff; print {$w} "$k $i $x\n" if $i % 500 == 0 }
        close $w or die "close: $!";
        exit 0;
    }
    close $w;
    push @readers, [$k, $r, $pid];
}
open my $log, '>>', 'log' or die "open: $!";
for (@readers) {
    my ($k, $r, $pid) = @$_;
    while (my $line = <$r>) { my (undef, $i, $x) = split ' ', $line; $sum{$k} += $x % 1000 + $i; print {$log} $line }
    waitpid $pid, 0;
    print "$k $sum{$k} $?\n";
}
close $log;
open $log, '<', 'log' or die "open: $!";
my $n = 0; $n += length while <$log>;
print "$n\n";
"#,
        )],
        script: "exec perl work.pl",
        ..PLAIN
    },
    // Dozens of threads, code made at run time, signals for its own purposes, a large heap with a
    // collector going over it.
    Program {
        name: "java",
        tools: &["java", "javac"],
        files: &[(
            "Work.java",
            r#"
import java.util.*;
import java.util.concurrent.*;

public class Work {
    static long work(int seed) {
        Map<Long, long[]> live = new HashMap<>();
        long x = seed, sum = 0;
        for (int i = 0; i < 700_000; i++) {
            x = x * 6364136223846793005L + 1442695040888963407L;
            live.put(x >>> 48, new long[] { x, i });
            if (live.size() > 20_000) live.clear();
            sum += x >>> 33;
        }
        return sum + live.size();
    }

    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> results = new ArrayList<>();
        for (int i = 0; i < 96; i++) { final int seed = i; results.add(pool.submit(() -> work(seed))); }
        for (Future<Long> result : results) System.out.println(result.get());
        pool.shutdown();
    }
}
"#,
        )],
        prepare: "javac Work.java",
        script: "exec java -Xmx256m -cp . Work",
        ..PLAIN
    },
    // A shell with job control in a pseudo terminal, and somebody who types.
    Program {
        name: "shell_in_terminal",
        tools: &["python3", "bash", "stty"],
        needs: &["job control in terminals"],
        files: &[(
            "type.py",
            r#"
import os, pty, re, time

pid, master = pty.fork()
if pid == 0:
    os.environ["PS1"] = "$ "
    os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])

text = b""
def expect(pattern):
    global text
    while not (found := re.search(pattern, text)):
        text += os.read(master, 4096)
    text = text[found.end():]
    return found

def type_in(line):
    os.write(master, line.encode())

def await_front(name):
    while True:
        group = os.tcgetpgrp(master)
        try:
            if open(f"/proc/{group}/comm").read() == name + "\n":
                return
        except FileNotFoundError:
            pass
        time.sleep(0.01)

expect(rb"\$ ")
type_in("stty -echo\n")
expect(rb"\$ ")
for n in range(80):
    time.sleep(0.04)
    type_in(f"echo begun {n}; sleep 1000\n")
    expect(b"begun %d" % n)
    await_front("sleep")
    type_in("\x1a")
    expect(rb"Stopped")
    expect(rb"\$ ")
    type_in(f"cat &\n")
    expect(rb"\$ ")
    # The shell continues only what it knows to be stopped.
    listed = b""
    while b"Stopped" not in listed:
        type_in("jobs %2\n")
        listed = expect(rb"\[2\][^$]*\$ ").group()
    type_in("fg %2; echo ended $?\n")
    type_in(f"line {n}\n\x04")
    print(expect(rb"line \d+").group().decode(), expect(rb"ended \d+").group().decode())
    type_in("fg %1\n")
    await_front("sleep")
    type_in("\x03")
    expect(rb"\$ ")
    type_in("echo status $?\n")
    print(expect(rb"status \d+").group().decode())
    expect(rb"\$ ")
type_in("exit\n")
print(os.waitpid(pid, 0)[1])
"#,
        )],
        script: "exec python3 type.py",
        ..PLAIN
    },
    // An event loop on an epoll, with timers, a thread pool and an eventfd.
    Program {
        name: "node",
        tools: &["node"],
        needs: &["epoll"],
        files: &[(
            "work.js",
            r#"
const crypto = require('crypto'), fs = require('fs'), zlib = require('zlib');
let done = 0, state = Buffer.from('dormouse');
const digests = [];
function step(n) {
    crypto.pbkdf2(state, 'salt' + n, 20000, 64, 'sha512', (error, key) => {
        if (error) throw error;
        state = key;
        zlib.deflate(Buffer.alloc(20000, key), (error, packed) => {
            if (error) throw error;
            fs.appendFileSync('log', packed);
            digests.push(crypto.createHash('sha256').update(packed).digest('hex'));
            if (n < 150) setTimeout(step, n % 5, n + 1); else finish();
        });
    });
}
const ticks = setInterval(() => { done++; }, 10);
function finish() {
    clearInterval(ticks);
    if (done === 0) throw new Error('no timer fired');
    console.log(digests.join('\n'));
    console.log(crypto.createHash('sha256').update(fs.readFileSync('log')).digest('hex'));
}
step(1);
"#,
        )],
        script: "exec node work.js",
        ..PLAIN
    },
    // Dozens of processes one below the other, each with a zombie, some in sessions of their own.
    Program {
        name: "deep_tree",
        tools: &["gcc"],
        files: &[(
            "deep.c",
            r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEPTH = 24, ROUNDS = 4000000 };

static unsigned long work(unsigned long x)
{
    for (int i = 0; i < ROUNDS; i++)
        x = x * 6364136223846793005ul + 1442695040888963407ul;
    return x;
}

/* A zombie, a child that goes deeper, and work of its own; the sum goes up by a pipe. */
static unsigned long level(int depth)
{
    int up[2], status;
    unsigned long below = 0;
    pid_t zombie = fork();
    if (zombie == 0)
        _exit(depth + 1);
    if (pipe(up))
        exit(90);
    pid_t child = -1;
    if (depth < DEPTH && (child = fork()) == 0) {
        if (depth % 6 == 0)
            setsid();
        unsigned long sum = level(depth + 1);
        _exit(write(up[1], &sum, sizeof sum) != sizeof sum);
    }
    unsigned long own = work(depth) ^ work(depth + 100);
    if (child > 0) {
        if (read(up[0], &below, sizeof below) != sizeof below)
            exit(91);
        if (waitpid(child, &status, 0) != child || status != 0)
            exit(92);
    }
    close(up[0]);
    close(up[1]);
    if (waitpid(zombie, &status, 0) != zombie || WEXITSTATUS(status) != depth + 1)
        exit(93);
    return own + below * 31;
}

int main(void)
{
    for (int i = 0; i < 8; i++) {
        printf("%d %lu\n", i, level(1));
        fflush(stdout);
    }
    return 0;
}
"#,
        )],
        prepare: "gcc -O2 -o deep deep.c",
        script: "exec ./deep",
        ..PLAIN
    },
    // A scheduler of its own with as many threads as it likes, a collector beside the program,
    // signals that interrupt it at any time.
    Program {
        name: "go",
        tools: &["go"],
        files: &[(
            "work.go",
            r#"
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"sync"
	"time"
)

type node struct {
	left, right *node
	value       uint64
}

func grow(depth int, seed uint64) *node {
	if depth == 0 {
		return nil
	}
	seed = seed*6364136223846793005 + 1442695040888963407
	return &node{grow(depth-1, seed), grow(depth-1, seed^0x9e3779b97f4a7c15), seed >> 33}
}

func (n *node) sum() uint64 {
	if n == nil {
		return 0
	}
	return n.value + n.left.sum()*3 + n.right.sum()*5
}

func main() {
	ticks := 0
	ticker := time.NewTicker(5 * time.Millisecond)
	stop := make(chan struct{})
	var clock sync.WaitGroup
	clock.Add(1)
	go func() {
		defer clock.Done()
		for {
			select {
			case <-ticker.C:
				ticks++
			case <-stop:
				return
			}
		}
	}()
	jobs, results := make(chan int), make(chan string)
	for worker := 0; worker < 8; worker++ {
		go func() {
			for job := range jobs {
				digest := sha256.Sum256([]byte(fmt.Sprint(job)))
				for i := 0; i < 15000; i++ {
					digest = sha256.Sum256(digest[:])
				}
				results <- fmt.Sprintf("%03d %x %d", job, digest[:8], grow(14, uint64(job)).sum())
			}
		}()
	}
	const count = 900
	go func() {
		for job := 0; job < count; job++ {
			jobs <- job
		}
		close(jobs)
	}()
	lines := make([]string, count)
	for i := 0; i < count; i++ {
		line := <-results
		var job int
		fmt.Sscanf(line, "%d", &job)
		lines[job] = line
	}
	close(stop)
	clock.Wait()
	if ticks == 0 {
		fmt.Fprintln(os.Stderr, "no timer fired")
		os.Exit(1)
	}
	for _, line := range lines {
		fmt.Println(line)
	}
}
"#,
        )],
        prepare: "GOCACHE=$PWD/.cache GO111MODULE=off go build -o work work.go",
        script: "exec ./work",
        ..PLAIN
    },
];

fn main() -> ExitCode {
    let scenario = Path::new(env!("CARGO_BIN_EXE_dormouse-scenario"));
    program::main(scenario, PROGRAMS, lacks::LACKS)
}
