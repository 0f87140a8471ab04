package lua_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/lua"
)

func TestMain(m *testing.M) {
	lua.RunIfChild()
	os.Exit(m.Run())
}

// pool returns a pool that is closed at the test's end, and looks what it left
// behind then.
func pool(t testing.TB, size int) *lua.Pool {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	p := lua.NewPool(lua.Options{Size: size})
	t.Cleanup(func() {
		p.Close()
		for range 1000 { // what has ended is not always gone at once
			if runtime.NumGoroutine() <= goroutines {
				break
			}
			runtime.Gosched()
		}
		if n := runtime.NumGoroutine(); n > goroutines+1 {
			t.Errorf("%d goroutines are left; there were %d", n, goroutines)
		}
		if n := openFiles(t); n > files {
			t.Errorf("%d files are left open; there were %d", n, files)
		}
		if c := children(t); len(c) > 0 {
			t.Errorf("children are left: %v", c)
		}
	})
	return p
}

func openFiles(t testing.TB) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // not Linux
	}
	return len(files)
}

// children returns the ids of this process's children that run Lua, zombies
// included.
func children(t testing.TB) (pids []int) {
	t.Helper()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it ended meanwhile
		}
		var pid, parent int
		var state string
		text := string(b)
		_, rest, _ := strings.Cut(text, ") ")
		if _, err := fmt.Sscan(rest, &state, &parent); err != nil || parent != os.Getpid() {
			continue
		}
		pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
		pids = append(pids, pid)
	}
	return pids
}

func call(functions ...string) lua.Call {
	return lua.Call{
		Key: "a", Functions: functions, Event: "consumers", Source: "crud", PID: 42,
		Data: []byte(`{"operation":"create","entity":{"username":"jane"}}`),
	}
}

// body is a function with the given body.
func body(lines string) string {
	return "return function (data, event, source, pid)\n" + lines + "\nend"
}

const fine = "return function() return true end"

// run makes a call that must be made.
func run(t testing.TB, p *lua.Pool, c lua.Call) lua.Result {
	t.Helper()
	res, err := p.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestPool_Run(t *testing.T) {
	p := pool(t, 1)
	for _, c := range []struct {
		name, fault string
		functions   []string
	}{
		{"true", "", []string{fine}},
		{"several", "", []string{fine, fine, fine}},
		{"Kong's example", "function 1: line 3: Event Hook on consumer jane", []string{kongReturn}},
		{"what it is given", "", []string{body("return data.entity.username == 'jane' and event == 'consumers' and source == 'crud' and pid == 42")}},
		{"false", "function 2 returned false", []string{fine, "return function() return false end", "return function() error('not reached') end"}},
		{"nothing", "function 1 returned nil", []string{"return function() end"}},
		{"a value that is true in Lua", "function 1 returned a string", []string{"return function() return 'true' end"}},
		{"a number", "function 1 returned a number", []string{"return function() return 1 end"}},
		{"no function", "function 2: Bad return value from function, expected function type, got number", []string{fine, "local n = 5 return n"}},
		{"no Lua", "function 1: line 1: syntax error", []string{"return function( end"}},
		{"bytecode", "function 1: line 1: syntax error", []string{"\x1bLua"}},
		{"what is missing", "function 1: line 2: attempt to index a non-table object(nil)", []string{body("return data.a.b == nil")}},
		{"an error of the chunk itself", "function 1: line 1: early", []string{"error('early')"}},
		{"an error that is a table", "function 1: error with a table value", []string{body("error({})")}},
		{"an error that is nil", "function 1: error with a nil value", []string{body("error()")}},
		{"an error without a place", "function 1: gone", []string{body("error('gone', 0)")}},
		{"an error of two lines", "function 1: line 2: one two", []string{body(`error("one\ntwo\27")`)}},
		{"a long error", "function 1: line 2: " + strings.Repeat("é", 96), []string{body("error(string.rep('é', 500))")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if res := run(t, p, call(c.functions...)); res.Fault != c.fault {
				t.Errorf("Fault = %q; want %q", res.Fault, c.fault)
			}
		})
	}
}

func TestPool_Run_bounds(t *testing.T) {
	p := pool(t, 1)
	res := run(t, p, call(body("kong.log.warn('still here') while true do end")))
	if res.Fault != "used more than 1 s of CPU" && res.Fault != "took more than 3 s" {
		t.Errorf("Fault = %q", res.Fault)
	}
	if want := []hook.LogLine{{Level: "warn", Message: "still here"}}; !slices.Equal(res.Log, want) {
		t.Errorf("Log = %v; want %v, also from a function that was ended", res.Log, want)
	}
	if res.Took < 900*time.Millisecond || res.Took > 4*time.Second {
		t.Errorf("Took = %s", res.Took)
	}
	p.SetBounds(time.Hour, 100*time.Millisecond)
	if res := run(t, p, call(body("while true do end"))); res.Fault != "took more than 0.1 s" {
		t.Errorf("Fault = %q", res.Fault)
	}
	// A child that has idled, and has used all of the bound before, has all of
	// it again.
	p.SetBounds(50*time.Millisecond, lua.MaxClock)
	for range 5 {
		if res := run(t, p, call(body("local t = os.clock() while os.clock() < t + 0.03 do end return true"))); res.Fault != "" {
			t.Errorf("Fault = %q", res.Fault)
		}
	}
}

// pids returns the ids of the pool's children.
func pids(t *testing.T, p *lua.Pool, want int) []int {
	t.Helper()
	c := p.PIDs()
	if len(c) != want {
		t.Fatalf("children = %v; want %d", c, want)
	}
	return c
}

func TestPool_childIsKept(t *testing.T) {
	p := pool(t, 2)
	if c := p.PIDs(); len(c) > 0 {
		t.Errorf("children = %v before the first call", c)
	}
	run(t, p, call(fine))
	first := pids(t, p, 1)
	for range 20 {
		run(t, p, call(fine))
	}
	if again := pids(t, p, 1); again[0] != first[0] {
		t.Errorf("the child is %d; it was %d", again[0], first[0])
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Kill(), p.Release()); err != nil {
		t.Fatal(err)
	}
}

func TestPool_childIsReplaced(t *testing.T) {
	p := pool(t, 1)
	run(t, p, call(fine))
	for range 20 {
		for _, pid := range pids(t, p, 1) {
			kill(t, pid)
		}
		if res := run(t, p, call(fine)); res.Fault != "" {
			t.Fatalf("Fault = %q; want a new child", res.Fault)
		}
	}
}

// started makes a call in the background that has begun when started returns.
func started(t *testing.T, ctx context.Context, p *lua.Pool, key string) <-chan lua.Result {
	t.Helper()
	before := p.Busy()
	done := make(chan lua.Result, 1)
	go func() {
		c := call(body("while true do end"))
		c.Key = key
		res, err := p.Run(ctx, c)
		if err != nil {
			res.Fault = err.Error()
		}
		done <- res
	}()
	for p.Busy() == before && ctx.Err() == nil {
		runtime.Gosched()
	}
	return done
}

func TestPool_childIsKilledInACall(t *testing.T) {
	p := pool(t, 1)
	done := started(t, t.Context(), p, "a")
	for _, pid := range pids(t, p, 1) {
		kill(t, pid)
	}
	if res := <-done; res.Fault == "" {
		t.Error("a call whose child was killed succeeded")
	}
	if res := run(t, p, call(fine)); res.Fault != "" {
		t.Errorf("Fault = %q", res.Fault)
	}
}

func TestPool_Run_contextEnds(t *testing.T) {
	p := pool(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := started(t, ctx, p, "a")
	waiting, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if _, err := p.Run(waiting, call(fine)); !errors.Is(err, lua.ErrBusy) {
		t.Errorf("Run = %v; want ErrBusy", err)
	}
	cancel()
	if res := <-done; res.Fault == "" {
		t.Error("a call that was cut off succeeded")
	}
	if _, err := p.Run(ctx, call(fine)); !errors.Is(err, lua.ErrBusy) {
		t.Errorf("Run = %v; want ErrBusy", err)
	}
	if res := run(t, p, call(fine)); res.Fault != "" {
		t.Errorf("Fault = %q", res.Fault)
	}
}

func TestPool_Run_others(t *testing.T) {
	p := pool(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := started(t, ctx, p, "a")
	second := make(chan lua.Result, 1)
	go func() {
		res, _ := p.Run(ctx, call(body("while true do end")))
		second <- res
	}()
	for range 50 { // a holds one child and wants both
		c := call(fine)
		c.Key = "b"
		if res := run(t, p, c); res.Fault != "" {
			t.Fatalf("Fault = %q", res.Fault)
		}
	}
	select {
	case res := <-first:
		t.Errorf("the endless call ended before 50 calls of another key: %+v", res)
	default:
	}
	cancel()
	<-first
	<-second
}

// TestPool_Run_shortOnes: with one child, endless calls of one key let the short
// ones of another pass.
func TestPool_Run_shortOnes(t *testing.T) {
	p := pool(t, 1)
	p.SetBounds(lua.MaxCPU, 500*time.Millisecond)
	ends := make(chan string, 16)
	do := func(key, source string) {
		c := call(source)
		c.Key = key
		_, _ = p.Run(t.Context(), c)
		ends <- key
	}
	first := started(t, t.Context(), p, "a")
	for range 2 {
		go do("a", body("while true do end"))
	}
	for p.Waiting() < 2 {
		runtime.Gosched()
	}
	for range 8 {
		go do("b", fine)
	}
	<-first
	var order string
	for range 10 {
		order += <-ends
	}
	if order != "bbbbbbbbaa" {
		t.Errorf("calls ended in the order %s; want b's before the others of a", order)
	}
}

func TestPool_Run_manyAtOnce(t *testing.T) {
	p := pool(t, 3)
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			c := call(body("return pid == " + strconv.Itoa(i)))
			c.Key, c.PID = strconv.Itoa(i%4), i
			if res, err := p.Run(t.Context(), c); err != nil || res.Fault != "" {
				t.Errorf("Run = %+v, %v", res, err)
			}
		})
	}
	wg.Wait()
	if c := p.PIDs(); len(c) > 3 {
		t.Errorf("children = %v; want at most 3", c)
	}
}

func TestPool_Close(t *testing.T) {
	p := pool(t, 2)
	done := started(t, t.Context(), p, "a")
	p.Close()
	if res := <-done; res.Fault == "" {
		t.Error("a call succeeded that Close ended")
	}
	if _, err := p.Run(t.Context(), call(fine)); err == nil {
		t.Error("a closed pool runs functions")
	}
}

func TestNewPool_size(t *testing.T) {
	for memory, want := range map[int]int{0: 2, 128: 1, 256: 1, 512: 1, 576: 2, 1024: 4, 10240: 62} {
		if n := lua.NewPool(lua.Options{MemoryMB: memory}).Size(); n != want {
			t.Errorf("%d MB: %d children; want %d", memory, n, want)
		}
	}
}

func BenchmarkPool_Run(b *testing.B) {
	p := lua.NewPool(lua.Options{Size: 1})
	defer p.Close()
	c := call(body("return data.entity.username == 'jane'"))
	if res := run(b, p, c); res.Fault != "" {
		b.Fatal(res.Fault)
	}
	for b.Loop() {
		run(b, p, c)
	}
}

func BenchmarkPool_Run_first(b *testing.B) {
	for b.Loop() {
		p := lua.NewPool(lua.Options{Size: 1})
		run(b, p, call(fine))
		p.Close()
	}
}
