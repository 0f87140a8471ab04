//go:build unix && !linux

package lua

import (
	"os"
	"syscall"
	"time"
)

func executable() (string, error) { return os.Executable() }

// attributes: nothing kills a child when its parent dies. It ends with its
// input, or by itself when a call takes too long.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// limit: no limit here is one of the memory that a Go program asks for.
func limit() error { return nil }

// cpuTime: only the clock bounds a call here.
func cpuTime(int) (time.Duration, bool) { return 0, false }

func keepFiles() {}
