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
	"syscall"
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
		{"what is missing", "function 1: line 2: attempt to index a non-table object(nil) with key 'b'", []string{body("return data.a.b == nil")}},
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

// bombsAtRun are functions that pass Check and must not hurt.
var bombsAtRun = map[string]string{
	"a loop":                            "while true do end",
	"a loop of a goto":                  "::a:: goto a",
	"optional letters":                  `return string.find(string.rep("a", 40), string.rep("a?", 40) .. string.rep("a", 40)) ~= nil`,
	"a pattern of lazy parts":           `return string.find(string.rep("a", 2000), ".-.-.-.-b") == 1`,
	"a growing gsub":                    `local s = "aaaaaaaaaa" while true do s = s:gsub("a", "aaaaaaaaaa") end`,
	"a gsub of much":                    `local s = string.rep("x", 1e6) while true do s:gsub("", s) end`,
	"rep":                               `return #string.rep("x", 1e9) > 0`,
	"rep again and again":               `local t = {} while true do t[#t + 1] = string.rep("x", 1e7) end`,
	"a wide format":                     `return string.format("%1000000000d", 1) ~= ""`,
	"tail calls":                        "local function f() return f() end return f()",
	"recursion":                         "local function f() return 1 + f() end return f()",
	"recursion through pcall":           "local function f() return pcall(f) end while true do f() end",
	"recursion through gsub":            `local function f() return ("x"):gsub("x", f) end f()`,
	"recursion through sort":            `local function f() table.sort({1, 2, 3}, f) end f()`,
	"a table that is filled":            "local t = {} for i = 1, 1e12 do t[i] = i end",
	"a table of names":                  "local t = {} for i = 1, 1e12 do t['k' .. i] = i end",
	"a list that grows":                 "local t = {} while true do t[#t + 1] = {} end",
	"an index out of the way":           "local t = {} for i = 1, 1e9 do t[i * 4000000 - 1] = i end error('full')",
	"a string that doubles":             `local s = "x" while true do s = s .. s end`,
	"a list that is joined":             `local t = {} for i = 1, 1000 do t[i] = string.rep("x", 1e6) end return #table.concat(t) > 0`,
	"unpack":                            "return select('#', unpack({}, 1, 1e9)) > 0",
	"unpack to the end of numbers":      "return select('#', unpack({}, 9007199254740991, 9223372036854775807)) > 0",
	"table.move":                        "table.move({}, 1, 1e15, 1)",
	"coroutines":                        "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
	"coroutines in one another":         "local function f() return coroutine.wrap(f)() end f()",
	"coroutines that wait":              "local t = {} while true do local c = coroutine.wrap(function() coroutine.yield() end) c() t[#t + 1] = c end",
	"a coroutine that never yields":     "coroutine.wrap(function() while true do end end)()",
	"errors that are swallowed":         "while true do pcall(error, 'x') end",
	"errors that are swallowed deeper":  "local function f() while true do pcall(f) end end f()",
	"an error in the handler":           "local function f() xpcall(error, f) end while true do f() end",
	"an error in a handler's handler":   "local function h(e) return xpcall(error, h, e) end return xpcall(error, h)",
	"a huge returned string":            `return string.rep("x", 16777216)`,
	"a huge error":                      `error(string.rep("x", 16777216))`,
	"a huge log":                        "while true do kong.log.err(string.rep('x', 1e6)) end",
	"lines without end":                 "while true do print('x') end",
	"a table that holds itself, logged": "local t = {} t.t = t for i = 1, 1e9 do kong.log.inspect(t) end",
	"a table that holds itself, as JSON": `
		local t = {} t.t = t return cjson.encode(t) ~= nil`,
	"a table as JSON that is 2^100 large": `
		local t = {1} for i = 1, 100 do t = {t, t} end return cjson.encode(t) ~= nil`,
	"JSON that is deep": `return cjson.decode(string.rep("[", 1e7)) ~= nil`,
	"a sort that lies":  "local t = {} for i = 1, 1e6 do t[i] = i end while true do table.sort(t, function() return true end) end",
	"sorting":           "local t = {} for i = 1, 1e6 do t[i] = -i end while true do table.sort(t) end",
	"numbers as text":   "local t = {} for i = 1, 1e12 do t[i] = tostring(i) .. i end",
	"closures":          "local f = function() end for i = 1, 1e12 do local g = f f = function() return g end end",
}

func TestPool_Run_bombs(t *testing.T) {
	if lua.UnderRace {
		t.Skip("children have no limit of memory under the race detector")
	}
	p := pool(t, 2)
	p.SetBounds(100*time.Millisecond, lua.MaxClock) // the same end, sooner; the real bounds are tested below
	t.Run("all", func(t *testing.T) {
		for name, source := range bombsAtRun {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if err := lua.Check(body(source)); err != nil {
					t.Fatalf("Check: %v", err)
				}
				c := call(fine, body(source), fine)
				c.Key = name
				res := run(t, p, c)
				t.Logf("%4d ms: %s", res.Took.Milliseconds(), res.Fault)
				if res.Fault == "" || len(res.Fault) > 300 || strings.ContainsAny(res.Fault, "\n\x00") {
					t.Errorf("Fault = %q", res.Fault)
				}
				if res.Took > 4*time.Second {
					t.Errorf("Took = %s", res.Took)
				}
				if len(res.Log) > 65 {
					t.Errorf("%d lines were logged", len(res.Log))
				}
			})
		}
	})
	for range 2 {
		if res := run(t, p, call(fine)); res.Fault != "" {
			t.Errorf("the call after them: %s", res.Fault)
		}
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
	if runtime.GOOS == "linux" && !lua.UnderRace {
		if res := run(t, p, call(body("local t = {} for i = 1, 1e9 do t[i] = string.rep('x', 1e6) end"))); res.Fault != "used more than 160 MB" {
			t.Errorf("Fault = %q", res.Fault)
		}
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

// pids returns the children's ids, on Linux.
func pids(t *testing.T, want int) []int {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	c := children(t)
	if len(c) != want {
		t.Fatalf("children = %v; want %d", c, want)
	}
	return c
}

func TestPool_childIsKept(t *testing.T) {
	p := pool(t, 2)
	if c := children(t); len(c) > 0 {
		t.Errorf("children = %v before the first call", c)
	}
	run(t, p, call(fine))
	first := pids(t, 1)
	for range 20 {
		run(t, p, call(fine))
	}
	if again := pids(t, 1); again[0] != first[0] {
		t.Errorf("the child is %d; it was %d", again[0], first[0])
	}
}

func TestPool_childIsReplaced(t *testing.T) {
	p := pool(t, 1)
	run(t, p, call(fine))
	for range 20 {
		for _, pid := range pids(t, 1) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if res := run(t, p, call(fine)); res.Fault != "" {
			t.Fatalf("Fault = %q; want a new child", res.Fault)
		}
	}
}

// started makes a call in the background that has begun when started returns.
func started(t *testing.T, ctx context.Context, p *lua.Pool, key string) <-chan lua.Result {
	t.Helper()
	before := len(children(t))
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
	for len(children(t)) == before && ctx.Err() == nil {
		runtime.Gosched()
	}
	return done
}

func TestPool_childIsKilledInACall(t *testing.T) {
	p := pool(t, 1)
	done := started(t, t.Context(), p, "a")
	for _, pid := range pids(t, 1) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
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
	if c := children(t); len(c) > 3 {
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

// TestPool_child looks at a child from outside: what it was started with.
func TestPool_child(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-environment")
	p := pool(t, 1)
	run(t, p, call(fine))
	pid := pids(t, 1)[0]
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
	status, _ := os.ReadFile(proc + "status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") {
			t.Log(strings.TrimSpace(line))
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
