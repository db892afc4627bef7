# A shell at a terminal, where somebody runs a pipeline, has it dumped, brings it back, suspends it and
# has it go on. Arguments: dormouse, a directory for images.
import ctypes, os, pty, re, subprocess, sys, time

dormouse, images = sys.argv[1:]
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
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
    return found.group()

def type_in(line):
    os.write(master, line.encode())

def states(group):
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                state, _, pgrp = file.read().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group:
            yield state

expect(rb"\$ ")
type_in("stty -echo\n")
expect(rb"\$ ")
type_in("sh -c \"sed -u 's/^/first /' | sed -u 's/^/second /'; exit 7\"\n")
type_in("one\n")
print(expect(rb"second first one").decode())
root = os.tcgetpgrp(master)
said = subprocess.run(
    [dormouse, "dump", "-j", "-t", str(root), "-D", images, "-o", "dump.log"],
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
if said.returncode:
    sys.exit(said.stdout.decode())
# Both of the pipeline, whose parent was killed.
for _ in range(2):
    os.waitid(os.P_PGID, root, os.WEXITED)
expect(rb"\$ ")
type_in(f"{dormouse} restore -j -D {images} -o restore.log\n")
type_in("two\n")
print(expect(rb"second first two").decode())
for word in ["three", "four"]:
    type_in("\x1a")
    expect(rb"Stopped")
    expect(rb"\$ ")
    # The shell waits for the first of them alone. One that reads, and has not run since the signal, takes what
    # is typed before it stops: n_tty_read() looks for that first.
    while set(states(root)) != {"T"}:
        time.sleep(0.01)
    type_in("fg\n")
    type_in(f"{word}\n")
    print(expect(rb"second first " + word.encode()).decode())
print("of the program:", os.tcgetpgrp(master) == root)
type_in("\x04")
expect(rb"\$ ")
type_in("echo status $?\n")
print(expect(rb"status \d+").decode())
expect(rb"\$ ")
type_in("exit\n")
os.waitpid(pid, 0)
