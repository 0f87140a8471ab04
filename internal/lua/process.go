package lua

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child, seen from its parent.
type process struct {
	p      *os.Process
	in     *os.File
	out    *os.File
	errs   *os.File
	answer *bufio.Reader
	used   bool          // it has made a call before
	dead   chan struct{} // closed when it is dead and waited for
	state  *os.ProcessState

	mu  sync.Mutex
	why death // it was killed
}

// start starts a child and waits until it is ready. gone is called once: when
// the child has died, whoever killed it, or with nil when there never was one.
func start(ctx context.Context, gone func(*process)) (*process, error) {
	if !mayStart.Load() {
		gone(nil)
		return nil, errors.New("this program does not run Lua: its main does not call lua.RunIfChild")
	}
	type started struct {
		c   *process
		err error
	}
	result := make(chan started, 1)
	go func() {
		// The kernel kills a child when the thread that started it ends, so
		// that thread is kept: it waits for the child, and leaves no zombie.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		c, err := spawn()
		result <- started{c, err}
		if err != nil {
			gone(nil)
			return
		}
		c.state, _ = c.p.Wait()
		close(c.dead)
		gone(c)
	}()
	s := <-result // a fork and an exec
	if s.err != nil {
		return nil, s.err
	}
	c := s.c
	stop := context.AfterFunc(ctx, func() { c.kill(death{text: "it did not start in time"}) })
	slow := time.AfterFunc(startTimeout, func() { c.kill(death{text: "it did not start in time"}) })
	kind, _, err := readFrame(c.answer, maxAnswer)
	slow.Stop()
	stop()
	if err == nil && kind == frameReady {
		return c, nil
	}
	c.kill(death{text: "it is not ready"})
	err = fmt.Errorf("start a process for Lua: %s", c.death().text) // no death of a call
	c.close()
	return nil, err
}

func spawn() (*process, error) {
	name, err := executable()
	if err != nil {
		return nil, err
	}
	var theirs, ours []*os.File // stdin, stdout, stderr
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			for _, f := range ours {
				f.Close()
			}
			return nil, err
		}
		if i == 0 {
			r, w = w, r
		}
		theirs, ours = append(theirs, w), append(ours, r)
	}
	keepFiles()
	p, err := os.StartProcess(name, []string{childName}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: theirs, Sys: attributes(),
	})
	if err != nil {
		for _, f := range ours {
			f.Close()
		}
		return nil, fmt.Errorf("start a process for Lua: %w", err)
	}
	return &process{
		p: p, in: ours[0], out: ours[1], errs: ours[2],
		answer: bufio.NewReaderSize(ours[1], 4<<10), dead: make(chan struct{}),
	}, nil
}

// kill ends the child, and notes why. Only the first reason counts.
func (c *process) kill(why death) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why.text == "" {
		c.why = why
	}
	_ = c.p.Kill() // dead already is as good
}

// killed returns why the child was killed, nothing if it was not, or not by us.
func (c *process) killed() death {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// close closes the pipes of a dead child.
func (c *process) close() {
	c.in.Close()
	c.out.Close()
	c.errs.Close()
}

// alive reports whether the child has not died yet, as far as is known.
func (c *process) alive() bool {
	select {
	case <-c.dead:
		return false
	default:
		return true
	}
}

// exchange is one call: what goes to a child, and what comes back.
type exchange struct {
	request []byte
	most    uint32 // bytes of one frame of the answer
	// take takes a frame of the answer: done after the last, ok unless it does
	// not belong there.
	take func(kind byte, fields [][]byte) (done, ok bool)
	// fresh reports whether nothing of an answer was taken yet.
	fresh func() bool
	took  time.Duration // without waiting for a child
}

// call makes one call. The error is for a child that died, or was killed, and
// is of no more use: it says what that means for the call.
func (c *process) call(ctx context.Context, x *exchange, most bounds) *death {
	begin := time.Now()
	defer func() { x.took = time.Since(begin) }()
	w := watch{c: c, most: most, begin: begin}
	w.cpu, w.counts = cpuTime(c.p.Pid)
	timer := w.start()
	defer timer.stop()
	stop := context.AfterFunc(ctx, func() { c.kill(death{text: cutOff}) })
	defer stop()

	if _, err := c.in.Write(x.request); err != nil {
		return c.death()
	}
	for {
		kind, f, err := readFrame(c.answer, x.most)
		if err != nil && !errors.Is(err, errFrame) { // it is dead, or will be
			return c.death()
		}
		done, ok := false, false
		if err == nil {
			done, ok = x.take(kind, f)
		}
		switch {
		case !ok:
			c.kill(death{text: "it did not answer as agreed"})
			return c.death()
		case done:
			if !timer.stop() || !stop() { // too late: it is being killed
				return c.death()
			}
			return nil
		}
	}
}

// death is why a child died, as the end of an attempt.
type death struct {
	text string
	// bound tells that what it ran needed more than it may have of what does
	// not depend on others: it would need as much another time.
	bound bool
}

func (d *death) Error() string { return d.text }

// death waits until the child is dead, which the watch makes certain, and says
// why.
func (c *process) death() *death {
	<-c.dead
	if why := c.killed(); why.text != "" {
		return &why
	}
	told, _ := io.ReadAll(io.LimitReader(c.errs, 4<<10)) // its other end is closed
	switch text := string(told); {
	case strings.Contains(text, "stack overflow"):
		return &death{"used more stack than there is", true}
	case strings.Contains(text, "out of memory"), strings.Contains(text, "cannot allocate"), strings.Contains(text, "failed to create new OS thread"):
		return &death{"used more than " + strconv.Itoa(MaxMemory>>20) + " MB", true}
	}
	if c.state == nil {
		return &death{text: "the process that ran it ended"}
	}
	return &death{text: "the process that ran it ended: " + c.state.String()}
}

// struckDown reports whether the dead child was killed by somebody else.
func (c *process) struckDown() bool {
	if c.killed().text != "" || c.state == nil {
		return false
	}
	s, ok := c.state.Sys().(syscall.WaitStatus)
	return ok && s.Signaled()
}

// watch kills a child whose call takes too long.
type watch struct {
	c      *process
	most   bounds
	begin  time.Time
	cpu    time.Duration // of the child, before the call
	counts bool          // cpu is known

	mu    sync.Mutex
	timer *time.Timer
	done  bool
}

func (w *watch) start() *watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.most.clock
	if w.counts {
		first = min(first, w.most.cpu) // on one processor nobody uses more in less time
	}
	w.timer = time.AfterFunc(first, w.look)
	return w
}

// stop ends the watch; false when it has killed the child.
func (w *watch) stop() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	killed := w.done && w.c.killed().text != ""
	w.done = true
	return !killed
}

func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return
	}
	left := w.most.clock - time.Since(w.begin)
	if left <= 0 {
		w.done = true
		w.c.kill(death{text: "took more than " + seconds(w.most.clock)})
		return
	}
	if w.counts {
		if now, ok := cpuTime(w.c.p.Pid); ok {
			used := now - w.cpu
			if used >= w.most.cpu {
				w.done = true
				w.c.kill(death{"used more than " + seconds(w.most.cpu) + " of CPU", true})
				return
			}
			left = min(left, max(w.most.cpu-used, 5*time.Millisecond))
		}
	}
	w.timer.Reset(left)
}
