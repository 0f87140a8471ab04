package lua_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"eventhooks/internal/lua"
)

// TestPool_child looks at a child from outside: what it was started with.
func TestPool_child(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-environment")
	p := pool(t, 1)
	run(t, p, call(fine))
	pid := pids(t, p, 1)[0]
	proc := fmt.Sprintf("/proc/%d/", pid)
	if b, err := os.ReadFile(proc + "environ"); err != nil || len(b) > 0 {
		t.Errorf("environment = %q, %v; want none", b, err)
	}
	files, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files { // beside its pipes, Go's own: what wakes it, and how much CPU there is
		to, _ := os.Readlink(proc + "fd/" + f.Name())
		if !strings.HasPrefix(to, "pipe:") && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/sys/fs/cgroup/") {
			t.Errorf("file %s is %s", f.Name(), to)
		}
	}
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("process group = %d, %v; want its own, %d", group, err, pid)
	}
	limits, err := os.ReadFile(proc + "limits")
	if err != nil {
		t.Fatal(err)
	}
	if !lua.UnderRace && !strings.Contains(string(limits), "Max data size             167772160            167772160") {
		t.Errorf("limits:\n%s", limits)
	}
}
