//go:build !unix

package lua

import (
	"os"
	"syscall"
	"time"
)

func executable() (string, error) { return os.Executable() }

func attributes() *syscall.SysProcAttr { return nil }

func limit() error { return nil }

func cpuTime(int) (time.Duration, bool) { return 0, false }

func keepFiles() {}
