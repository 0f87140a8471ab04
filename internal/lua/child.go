package lua

import (
	"bufio"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/lua/sandbox"
)

// childName is argv[0] of a child, and what marks it as one.
const childName = "eventhooks-lua"

// mayStart is set by RunIfChild in a process that is no child. A program that
// does not call it would start itself again and again.
var mayStart atomic.Bool

// RunIfChild is the first statement of the main function of every program that
// makes a Pool. In a process that a Pool started it runs functions until the
// pool ends, and does not return; in any other it returns at once.
func RunIfChild() {
	if len(os.Args) != 1 || os.Args[0] != childName {
		mayStart.Store(true)
		return
	}
	serve(os.Stdin, os.Stdout)
	os.Exit(0)
}

// serve is the life of a child. It ends with its input, which is the parent's
// end. Who runs a call too long is killed by the parent; should there be none
// any more, by itself.
func serve(in, out *os.File) {
	runtime.GOMAXPROCS(1)
	debug.SetTraceback("none") // the parent wants to know what, not where
	debug.SetMemoryLimit(MaxMemory / 2)
	debug.SetMaxStack(MaxMemory / 4)
	if limit() != nil {
		return // a child without its limits runs nothing
	}
	box := sandbox.New()
	r := bufio.NewReaderSize(in, 64<<10)
	if _, err := out.Write(frame[string](frameReady)); err != nil {
		return
	}
	orphan := time.AfterFunc(time.Hour, func() { os.Exit(3) })
	orphan.Stop()
	for {
		kind, f, err := readFrame(r, maxCall)
		if err != nil {
			return
		}
		orphan.Reset(2 * MaxClock)
		var answer []byte
		switch {
		case kind == frameCall && len(f) >= 4:
			pid, _ := strconv.Atoi(string(f[3]))
			fault := box.Run(sandbox.Call{Event: string(f[0]), Source: string(f[1]), Data: f[2], PID: pid, Functions: texts(f[4:])},
				func(l hook.LogLine) { _, _ = out.Write(logFrame(l)) }) // a parent that is gone is noticed at the end
			answer = frame(frameEnd, fault)
		case kind == frameRender && len(f) >= 3:
			pieces, fault := box.Render(sandbox.Rendering{Event: string(f[0]), Source: string(f[1]), Data: f[2], Scripts: texts(f[3:])})
			if fault != nil {
				answer = frame(frameFault, strconv.Itoa(fault.Script), strconv.Itoa(fault.Line), fault.Text)
				break
			}
			answer = frame(framePieces, pieces...)
		default:
			return
		}
		orphan.Stop()
		if _, err := out.Write(answer); err != nil {
			return
		}
	}
}

func texts(fields [][]byte) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = string(f)
	}
	return out
}
