package lua

import (
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// executable is this program, even when its file was replaced.
func executable() (string, error) { return "/proc/self/exe", nil }

// attributes: a group of its own, so that Ctrl-C in a terminal reaches only the
// parent; and killed when the parent dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// keepFiles keeps from children what files this process was started with, beside
// the three of every process: Go marks those that it opens by itself.
var keepFiles = sync.OnceFunc(func() {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, f := range files {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
})

// limit bounds the memory that this process can ask for. Nothing raises it
// again. No core is written: it would hold event data.
func limit() error {
	if !underRace {
		if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: MaxMemory, Max: MaxMemory}); err != nil {
			return err
		}
	}
	return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}

// cpuTime is how long all threads of a process have run; false when that is not
// known.
func cpuTime(pid int) (time.Duration, bool) {
	const sched = 2 // see clock_getcpuclockid(3): the clock of another process
	var t syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(int32(^pid)<<3|sched), uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}
