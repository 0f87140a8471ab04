//go:build linux && !race

// Bombs need the limit of a child's memory. Linux holds it; the race detector
// does not fit into it, so the tests under it are run beside those without.

package lua_test

import (
	"strings"
	"testing"
	"time"

	"eventhooks/internal/lua"
)

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
	p := pool(t, 2)
	p.SetBounds(100*time.Millisecond, lua.MaxClock) // the same end, sooner; the real ones have a test of their own
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

// bombsAsTemplates are templates that pass CheckScript and must not hurt.
var bombsAsTemplates = map[string]string{
	"a loop":                        "{% while true do %}{% end %}",
	"text without end":              "{% while true do %}x{% end %}",
	"values without end":            "{% while true do %}{{ 1 }}{% end %}",
	"names without end":             "{% while true do %}{{entity}}{% end %}",
	"nothing without end":           "{% while true do %}{{ nil }}{% end %}",
	"text without end, swallowed":   "{% while true do pcall(function() %}x{% end) end %}",
	"an echo without end":           "{% while true do pcall(echo, string.rep('x', 1e6)) end %}",
	"a large value":                 "{{ string.rep('x', 16777216) }}",
	"rep":                           "{{ string.rep('x', 1e9) }}",
	"a string that doubles":         "{% local s = 'x' %}{% while true do s = s .. s end %}",
	"a pattern that never ends":     "{{ string.find(string.rep('a', 40), string.rep('a?', 40) .. string.rep('a', 40)) }}",
	"a pattern of lazy parts":       "{{ string.rep('a', 2000):find('.-.-.-.-b') }}",
	"a growing gsub":                "{% local s = 'aaaaaaaaaa' while true do s = s:gsub('a', 'aaaaaaaaaa') end %}",
	"a growing table":               "{% local t = {} while true do t[#t + 1] = {} end %}",
	"growing data":                  "{% while true do context[#context + 1] = {} end %}",
	"a table that holds itself":     "{% context.c = context %}{{context}}",
	"a table that is 2^100 large":   "{% local t = {1} for i = 1, 100 do t = {t, t} end %}{{t}}",
	"a list that is almost empty":   "{{ {[1] = 1, [1e9] = 1} }}",
	"a function that gives itself":  "{% local function f() return f end %}{{f}}{% while true do echo(f) end %}",
	"text that calls itself":        "{% local function f() %}x{% f() end f() %}",
	"text in coroutines":            "{% local function f() %}x{% coroutine.wrap(f)() end f() %}",
	"a value that calls itself":     "{% function f() return f() end %}{{ f() }}",
	"errors that are swallowed":     "{% while true do pcall(error, 'x') end %}",
	"a sort that asks for text":     "{% local t = {} for i = 1, 1e6 do t[i] = -i end while true do table.sort(t, function(a, b) echo('') return a < b end) end %}",
	"a name that is asked for ever": "{% while true do local x = nobody end %}",
}

func TestPool_Render_bombs(t *testing.T) {
	p := pool(t, 2)
	p.SetBounds(50*time.Millisecond, lua.MaxClock)
	t.Run("all", func(t *testing.T) {
		for name, template := range bombsAsTemplates {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := rendering(t, template, fineTemplate)
				if err := lua.CheckScript(c.Scripts[0]); err != nil {
					t.Fatalf("CheckScript: %v", err)
				}
				c.Key = name
				res, err := p.Render(t.Context(), c)
				if err != nil || res.Fault == nil || res.Pieces != nil {
					t.Fatalf("Render = %d pieces, %v, %v; want a fault", len(res.Pieces), res.Fault, err)
				}
				t.Logf("%4d ms: %v", res.Took.Milliseconds(), res.Fault)
				if text := res.Fault.Error(); len(text) > 300 || strings.ContainsAny(text, "\n\x00") {
					t.Errorf("Fault = %q", text)
				}
				if res.Took > 4*time.Second {
					t.Errorf("Took = %s", res.Took)
				}
			})
		}
	})
	for range 2 {
		if got := rendered(t, p, fineTemplate); got != "JANE" {
			t.Errorf("the template after them gives %s", got)
		}
	}
}

func TestPool_Run_memory(t *testing.T) {
	p := pool(t, 1)
	if res := run(t, p, call(body("local t = {} for i = 1, 1e9 do t[i] = string.rep('x', 1e6) end"))); res.Fault != "used more than 160 MB" {
		t.Errorf("Fault = %q", res.Fault)
	}
}
