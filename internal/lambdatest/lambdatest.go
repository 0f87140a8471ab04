// Package lambdatest runs built Lambda functions: the very bootstrap binary, as
// a process, against a Lambda Runtime API on 127.0.0.1.
//
// It does what Lambda does with a custom runtime: a process starts when an
// event finds no idle one, serves one event at a time, is kept for the next,
// and is killed when it exceeds the function's timeout. A process that ends
// takes its event with it; the next event gets a new one.
//
// Test support: imported by _test.go files only.
package lambdatest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Options describe a function.
type Options struct {
	Binary string // path of the bootstrap; required
	Name   string // of the function; default "function"
	// Env is the process's whole environment, next to what Lambda itself sets
	// (region, credentials, names). Nothing of the test's own comes through.
	Env map[string]string
	// Timeout is how long one event may take; default 60 s.
	Timeout time.Duration
	// InitTimeout is how long a process may take until it asks for its first
	// event; default 10 s, as Lambda's.
	InitTimeout time.Duration
	// MemoryMB is what the process is told its memory is; default 512. It is
	// not enforced.
	MemoryMB int
}

// Function is a function that can be invoked, by any number of goroutines: as
// in Lambda, each event in flight has a process of its own.
type Function struct {
	o Options

	mu     sync.Mutex
	idle   []*process
	live   map[*process]bool
	starts []time.Duration
	closed bool
	output bytes.Buffer
}

// FunctionError is what the function reported instead of an answer.
type FunctionError struct {
	Type    string // "errorString", "Runtime.ExitError"
	Message string
}

func (e *FunctionError) Error() string { return fmt.Sprintf("%s: %s", e.Type, e.Message) }

// Errors of Invoke, next to *FunctionError.
var (
	// ErrTimeout: the event took longer than the function's timeout, and the
	// process was killed.
	ErrTimeout = errors.New("function timed out")
	// ErrExit: the process ended while it had the event, or before it asked
	// for one.
	ErrExit = errors.New("process ended")
)

// New returns a function. Its processes end with the test at the latest.
func New(t testing.TB, o Options) *Function {
	t.Helper()
	if o.Name == "" {
		o.Name = "function"
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.InitTimeout == 0 {
		o.InitTimeout = 10 * time.Second
	}
	if o.MemoryMB == 0 {
		o.MemoryMB = 512
	}
	f := &Function{o: o, live: map[*process]bool{}}
	t.Cleanup(func() {
		f.Close()
		if t.Failed() {
			t.Logf("output of %s:\n%s", o.Name, f.Output())
		}
	})
	return f
}

// Close kills the function's processes and waits until they are gone. It may
// be called while events are in flight: they fail.
func (f *Function) Close() {
	f.mu.Lock()
	f.closed = true
	all := slices.Collect(maps.Keys(f.live))
	f.idle = nil
	f.mu.Unlock()
	for _, p := range all {
		p.kill()
	}
}

// Kill kills the processes that the function has, idle or not, as a machine does
// that fails, and waits until they are gone. Events in flight end with ErrExit;
// the next event starts a new process.
func (f *Function) Kill() {
	f.mu.Lock()
	all := slices.Collect(maps.Keys(f.live))
	f.idle = nil
	f.mu.Unlock()
	for _, p := range all {
		p.kill()
	}
}

// Output returns what the processes wrote to standard output and error.
func (f *Function) Output() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.output.String()
}

// Starts returns how long each process took from its start to its first
// request for an event, in the order of their starts.
func (f *Function) Starts() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.starts)
}

// Start starts a process, unless one is idle, and waits until it asks for an
// event. It returns how long that took; 0 for an idle one.
func (f *Function) Start(ctx context.Context) (time.Duration, error) {
	p, took, err := f.acquire(ctx)
	if err != nil {
		return 0, err
	}
	f.release(p)
	return took, nil
}

// Invoke hands the event to an idle process, or to a new one, and returns the
// answer. The error is a *FunctionError, ErrTimeout, ErrExit, or ctx's own;
// when ctx ends first, the process is killed.
func (f *Function) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	for {
		p, _, err := f.acquire(ctx)
		if err != nil {
			return nil, err
		}
		answer, err := p.invoke(ctx, event)
		if errors.Is(err, errGone) {
			continue // it ended while it was idle; the event is untouched
		}
		if _, reported := errors.AsType[*FunctionError](err); err != nil && !reported {
			p.kill()
			return nil, err
		}
		f.release(p)
		return answer, err
	}
}

// errGone: the process had ended before it took the event.
var errGone = errors.New("process was gone")

func (f *Function) acquire(ctx context.Context) (*process, time.Duration, error) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil, 0, errors.New("function is closed")
	}
	if n := len(f.idle); n > 0 {
		p := f.idle[n-1]
		f.idle = f.idle[:n-1]
		f.mu.Unlock()
		return p, 0, nil
	}
	f.mu.Unlock()
	return f.start(ctx)
}

func (f *Function) release(p *process) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.idle = append(f.idle, p)
	}
}

// process is one execution environment: a process and the Runtime API that
// only it talks to.
type process struct {
	f      *Function
	cmd    *exec.Cmd
	server *http.Server
	arn    string

	ready    chan struct{}   // closed at the first request for an event
	initErr  chan error      // what it reported instead
	events   chan invocation // to the process
	outcomes chan outcome    // from the process
	ended    chan struct{}   // closed when it is gone
	readied  sync.Once
	count    int
	readyAt  time.Time
}

type invocation struct {
	id       string
	event    []byte
	deadline time.Time
}

type outcome struct {
	id     string
	answer []byte
	err    error
}

func (f *Function) start(ctx context.Context) (*process, time.Duration, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, 0, fmt.Errorf("start %s: %w", f.o.Name, err)
	}
	p := &process{
		f: f, arn: "arn:aws:lambda:eu-west-1:123456789012:function:" + f.o.Name,
		ready: make(chan struct{}), initErr: make(chan error, 1),
		events: make(chan invocation), outcomes: make(chan outcome, 1), ended: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", p.next)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", p.response)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", p.failure)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", p.initFailure)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = p.server.Serve(l) }()

	p.cmd = exec.Command(f.o.Binary)
	p.cmd.Env = f.environ(l.Addr().String())
	p.cmd.Stdout, p.cmd.Stderr = (*output)(f), (*output)(f)

	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		_ = p.server.Close()
		return nil, 0, errors.New("function is closed")
	}
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		f.mu.Unlock()
		_ = p.server.Close()
		return nil, 0, fmt.Errorf("start %s: %w", f.o.Name, err)
	}
	f.live[p] = true
	f.mu.Unlock()
	go func() {
		_ = p.cmd.Wait()
		_ = p.server.Close()
		f.mu.Lock()
		delete(f.live, p)
		f.mu.Unlock()
		close(p.ended)
	}()

	late := time.NewTimer(f.o.InitTimeout)
	defer late.Stop()
	select {
	case <-p.ready:
		took := p.readyAt.Sub(began)
		f.mu.Lock()
		f.starts = append(f.starts, took)
		f.mu.Unlock()
		return p, took, nil
	case err := <-p.initErr:
		p.kill()
		return nil, 0, fmt.Errorf("start %s: %w", f.o.Name, err)
	case <-p.ended:
		return nil, 0, fmt.Errorf("start %s: %w: %v", f.o.Name, ErrExit, p.cmd.ProcessState)
	case <-late.C:
		p.kill()
		return nil, 0, fmt.Errorf("start %s: %w before it asked for an event", f.o.Name, ErrTimeout)
	case <-ctx.Done():
		p.kill()
		return nil, 0, fmt.Errorf("start %s: %w", f.o.Name, ctx.Err())
	}
}

// environ is what Lambda sets, then the function's own settings.
func (f *Function) environ(api string) []string {
	env := map[string]string{
		"AWS_LAMBDA_RUNTIME_API":          api,
		"AWS_LAMBDA_FUNCTION_NAME":        f.o.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.o.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_FORMAT":           "JSON",
		"AWS_LAMBDA_LOG_LEVEL":            "INFO",
		"AWS_REGION":                      "eu-west-1",
		"AWS_DEFAULT_REGION":              "eu-west-1",
		"AWS_ACCESS_KEY_ID":               "test",
		"AWS_SECRET_ACCESS_KEY":           "test",
		"AWS_SESSION_TOKEN":               "test",
		"_HANDLER":                        "bootstrap",
		"LANG":                            "en_US.UTF-8",
		"PATH":                            "/usr/local/bin:/usr/bin/:/bin",
		"TZ":                              ":UTC",
	}
	maps.Copy(env, f.o.Env)
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// invoke hands the process one event and waits for what comes of it.
func (p *process) invoke(ctx context.Context, event []byte) ([]byte, error) {
	p.count++
	inv := invocation{fmt.Sprintf("%08x-0000-4000-8000-%012x", p.cmd.Process.Pid, p.count), event, time.Now().Add(p.f.o.Timeout)}
	late := time.NewTimer(p.f.o.Timeout)
	defer late.Stop()
	select {
	case p.events <- inv:
	case <-p.ended:
		return nil, errGone
	case <-late.C:
		return nil, ErrTimeout
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case o := <-p.outcomes:
		return o.answer, o.err
	case <-p.ended:
		select {
		case o := <-p.outcomes: // its last word
			return o.answer, o.err
		default:
			return nil, fmt.Errorf("%w: %v", ErrExit, p.cmd.ProcessState)
		}
	case <-late.C:
		return nil, ErrTimeout
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// kill ends the process as Lambda does, at once, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// next answers with the next event, however long that takes.
func (p *process) next(w http.ResponseWriter, r *http.Request) {
	p.readied.Do(func() { p.readyAt = time.Now(); close(p.ready) })
	select {
	case inv := <-p.events:
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", p.arn)
		h.Set("Lambda-Runtime-Trace-Id", "Root=1-69209f80-3c1f5a2b4d6e7f8091a2b3c4;Parent=53995c3f42cd8ad8;Sampled=0")
		_, _ = w.Write(inv.event)
	case <-r.Context().Done():
	}
}

func (p *process) response(w http.ResponseWriter, r *http.Request) {
	answer, err := io.ReadAll(r.Body)
	p.outcome(w, outcome{r.PathValue("id"), answer, err})
}

func (p *process) failure(w http.ResponseWriter, r *http.Request) {
	p.outcome(w, outcome{id: r.PathValue("id"), err: reported(r.Body)})
}

func (p *process) outcome(w http.ResponseWriter, o outcome) {
	select {
	case p.outcomes <- o:
	default: // a second answer to one event
		w.WriteHeader(http.StatusForbidden)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func (p *process) initFailure(w http.ResponseWriter, r *http.Request) {
	select {
	case p.initErr <- reported(r.Body):
	default:
	}
	w.WriteHeader(http.StatusAccepted)
}

func reported(body io.Reader) error {
	var e struct{ ErrorType, ErrorMessage string }
	raw, err := io.ReadAll(body)
	if err == nil {
		err = json.Unmarshal(raw, &e)
	}
	if err != nil {
		return &FunctionError{"Unreadable", fmt.Sprintf("%q: %v", raw, err)}
	}
	return &FunctionError{e.ErrorType, e.ErrorMessage}
}

// output collects what processes write.
type output Function

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.output.Write(b)
}

// Build builds the bootstrap of a package for this machine with go build's
// flags, and returns its path. CGO_ENABLED is the caller's.
func Build(t testing.TB, pkg string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bootstrap")
	cmd := exec.CommandContext(t.Context(), "go", slices.Concat([]string{"build"}, flags, []string{"-o", path, pkg})...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return path
}
