package lua

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/lua/sandbox"
	"eventhooks/internal/render"
)

// Bounds of one call, all functions of a hook together.
const (
	MaxCPU    = time.Second     // of processor time; measured on Linux
	MaxClock  = 3 * time.Second // of time
	MaxMemory = 160 << 20       // bytes that a child can ask for; held on Linux

	startTimeout = 5 * time.Second
	// parentMB is the memory that is not for children, in MB.
	parentMB = 256
	// localChildren is the size of a pool when the memory is not known.
	localChildren = 2
)

// What ends a call from outside, beside its bounds.
const (
	cutOff  = "cut off: the time for the attempt was up"
	closing = "cut off: the service was stopped"
)

// Options of a Pool.
type Options struct {
	// MemoryMB is the memory of this machine or function, in MB: a quarter of
	// a gigabyte is left to this process, the rest is for children. 0: not
	// known, two children.
	MemoryMB int
	// Size is the number of children, instead of MemoryMB.
	Size int
}

// Pool runs Lua in child processes of this program. They are started when they
// are needed, stay, and are replaced when they have died. A child has no
// environment, no files, no credentials, and bounded memory; it runs one call
// at a time, each with a state of its own. Nothing that a function does ends
// this process.
//
// A Pool is safe for concurrent use. Its program must call RunIfChild first.
type Pool struct {
	size   int
	bounds bounds

	mu      sync.Mutex
	closed  bool
	idle    []*process
	busy    map[*process]struct{}
	free    int            // places
	running map[string]int // calls by key
	waiting []*waiter
	spent   map[string]time.Duration // by key, while anybody waits
	living  sync.WaitGroup
}

// bounds of a call; a test takes smaller ones than MaxCPU and MaxClock.
type bounds struct{ cpu, clock time.Duration }

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'g', -1, 64) + " s" }

// waiter waits for a place.
type waiter struct {
	key   string
	place chan struct{} // closed when it has one
}

// Call is one event for the functions of one hook.
type Call struct {
	// Key says on whose behalf: a hook's id. Calls of one key wait for each
	// other rather than make others wait.
	Key       string
	Functions []string // Lua sources, as Check accepts them
	Data      []byte   // the event's, a JSON object
	Event     string
	Source    string
	PID       int
}

// Result is how a call ended.
type Result struct {
	// Fault says what was wrong: "function 2 returned false", "used more than
	// 1 s of CPU". "" when every function returned true.
	Fault string
	Log   []hook.LogLine // what was logged until then
	Took  time.Duration  // without waiting for a child
}

// NewPool returns a pool. No child is started yet.
func NewPool(o Options) *Pool {
	size := o.Size
	switch {
	case size > 0:
	case o.MemoryMB > 0:
		size = max(1, (o.MemoryMB-parentMB)/(MaxMemory>>20))
	default:
		size = localChildren
	}
	return &Pool{
		size: size, free: size, bounds: bounds{MaxCPU, MaxClock},
		running: map[string]int{}, spent: map[string]time.Duration{}, busy: map[*process]struct{}{},
	}
}

// Size returns how many calls run at once.
func (p *Pool) Size() int { return p.size }

// ErrBusy: no child became free before the context ended. Nothing was run.
var ErrBusy = errors.New("no process was free to run it in time")

// Run makes a call. It waits for a child, in a fair order: the key that holds
// fewer children comes first, then the one that has had less of their time, so
// that endless calls of one key do not hold up short ones of another; and a key
// never holds all children of a pool that has more than one. When ctx ends
// during the wait, the error is ErrBusy; when it ends during the call, the
// child is killed and Fault says so. Any other error is a child that cannot be
// started.
func (p *Pool) Run(ctx context.Context, c Call) (Result, error) {
	var res Result
	x := exchange{
		request: frame(frameCall, append([]string{c.Event, c.Source, string(c.Data), strconv.Itoa(c.PID)}, c.Functions...)...),
		most:    maxAnswer,
		take: func(kind byte, f [][]byte) (done, ok bool) {
			switch {
			case kind == frameLog && len(f) == 2 && len(res.Log) <= sandbox.MaxLogLines:
				res.Log = append(res.Log, hook.LogLine{Level: string(f[0]), Message: string(f[1])})
				return false, true
			case kind == frameEnd && len(f) == 1:
				res.Fault = string(f[0])
				return true, true
			}
			return false, false
		},
		fresh: func() bool { return len(res.Log) == 0 },
	}
	err := p.do(ctx, c.Key, &x)
	res.Took = x.took
	if end, ok := errors.AsType[*death](err); ok {
		res.Fault, err = end.text, nil
	}
	return res, err
}

// Rendering is one event for the scripts of one request of a hook.
type Rendering struct {
	Key     string // as in Call
	Scripts []*render.Script
	Data    []byte // the event's, a JSON object
	Event   string
	Source  string
}

// Rendered is how a rendering ended.
type Rendered struct {
	// Pieces are what each script wrote, for Bind; nil with a fault.
	Pieces [][]byte
	// Fault says what was wrong, nil when nothing was: at a tag of the script
	// with the index Script, or of all of them, when that is -1.
	Fault  *render.Error
	Script int
	// Again tells of a fault that another time may not have: it took too long
	// on the clock, or the child was lost.
	Again bool
	Took  time.Duration // without waiting for a child
}

// Render runs the scripts of one request, all in one call. It waits and fails
// as Run does.
func (p *Pool) Render(ctx context.Context, c Rendering) (Rendered, error) {
	fields := []string{c.Event, c.Source, string(c.Data)}
	for _, s := range c.Scripts {
		fields = append(fields, s.Source)
	}
	res := Rendered{Script: -1}
	x := exchange{
		request: frame(frameRender, fields...),
		most:    maxRendered,
		take: func(kind byte, f [][]byte) (done, ok bool) {
			switch {
			case kind == framePieces && len(f) == len(c.Scripts):
				res.Pieces = f
				return true, true
			case kind == frameFault && len(f) == 3:
				n, err := strconv.Atoi(string(f[0]))
				line, lerr := strconv.Atoi(string(f[1]))
				if err != nil || lerr != nil || n < 0 || n >= len(c.Scripts) {
					return false, false
				}
				res.Script, res.Fault = n, c.Scripts[n].Fault(line, string(f[2]))
				res.Fault.Tag = "" // it may be part of a secret header
				return true, true
			}
			return false, false
		},
		fresh: func() bool { return true },
	}
	err := p.do(ctx, c.Key, &x)
	res.Took = x.took
	if end, ok := errors.AsType[*death](err); ok {
		res = Rendered{Script: -1, Fault: &render.Error{Reason: end.text}, Again: !end.bound, Took: x.took}
		err = nil
	}
	return res, err
}

// do has a child make a call. The error is that of Run, or the *death of a child
// that did not answer.
func (p *Pool) do(ctx context.Context, key string, x *exchange) error {
	if err := p.enter(ctx, key); err != nil {
		return err
	}
	begin := time.Now()
	defer func() { p.leave(key, time.Since(begin)) }()
	for {
		child, err := p.take(ctx)
		if err != nil {
			return err
		}
		again := child.used
		child.used = true
		end := child.call(ctx, x, p.bounds)
		if end == nil {
			p.give(child)
			return nil
		}
		struckDown := child.struckDown()
		p.drop(child)
		if again && struckDown && x.fresh() {
			continue // it was dead before the call, or killed at its start: once more, on a new one
		}
		return end
	}
}

// Close kills the children and waits for their end. Calls that run end with a
// fault, calls after it with an error.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.idle {
		c.kill(death{text: closing})
	}
	for c := range p.busy {
		c.kill(death{text: closing})
	}
	p.mu.Unlock()
	p.living.Wait()
}

var errClosed = errors.New("the pool is closed")

// enter takes a place.
func (p *Pool) enter(ctx context.Context, key string) error {
	if ctx.Err() != nil {
		return ErrBusy
	}
	w := &waiter{key: key, place: make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, w)
	p.grant()
	p.mu.Unlock()
	select {
	case <-w.place:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	p.mu.Unlock()
	if i < 0 { // it got its place at the same moment
		p.leave(key, 0)
	}
	return ErrBusy
}

// leave gives a place back that was held for some time.
func (p *Pool) leave(key string, held time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free++
	p.spent[key] += held
	if p.running[key]--; p.running[key] == 0 {
		delete(p.running, key)
	}
	p.grant()
}

// grant gives free places to those that wait. It holds mu.
func (p *Pool) grant() {
	most := max(1, p.size-1)
	for p.free > 0 {
		best := -1
		for i, w := range p.waiting {
			if p.running[w.key] >= most {
				continue
			}
			if best < 0 || p.before(w.key, p.waiting[best].key) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		w := p.waiting[best]
		p.waiting = slices.Delete(p.waiting, best, best+1)
		p.free--
		p.running[w.key]++
		close(w.place)
	}
	if len(p.waiting) == 0 {
		clear(p.spent)
	}
}

// before reports whether key a comes before b, which has waited longer.
func (p *Pool) before(a, b string) bool {
	if p.running[a] != p.running[b] {
		return p.running[a] < p.running[b]
	}
	return p.spent[a] < p.spent[b]
}

// take returns a child that lives, a new one when there is none.
func (p *Pool) take(ctx context.Context) (*process, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	for len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if c.alive() {
			p.busy[c] = struct{}{}
			p.mu.Unlock()
			return c, nil
		}
		c.close()
	}
	p.living.Add(1)
	p.mu.Unlock()
	c, err := start(ctx, p.gone)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ErrBusy
		}
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy[c] = struct{}{}
	if p.closed {
		c.kill(death{text: closing})
	}
	return c, nil
}

// give puts a child back after a call.
func (p *Pool) give(c *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, c)
	if p.closed || !c.alive() {
		c.close()
		return
	}
	p.idle = append(p.idle, c)
}

// drop forgets a dead child.
func (p *Pool) drop(c *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, c)
	c.close()
}

// gone forgets a child that died while it had nothing to do; nil for one that
// never was.
func (p *Pool) gone(c *process) {
	defer p.living.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.idle, c); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
		c.close()
	}
}
