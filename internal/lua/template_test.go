package lua_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/lua"
	"eventhooks/internal/render"
)

// script is that of a template.
func script(t testing.TB, src string) *render.Script {
	t.Helper()
	tmpl, err := render.ParseText(src)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	if tmpl.Script() == nil {
		t.Fatalf("%s needs no Lua", src)
	}
	return tmpl.Script()
}

func rendering(t testing.TB, templates ...string) lua.Rendering {
	t.Helper()
	c := lua.Rendering{Key: "hook", Event: "consumers", Source: "crud", Data: []byte(`{"entity":{"username":"jane"},"n":1}`)}
	for _, src := range templates {
		c.Scripts = append(c.Scripts, script(t, src))
	}
	return c
}

// rendered is what templates make in p.
func rendered(t testing.TB, p *lua.Pool, template string) string {
	t.Helper()
	tmpl, err := render.ParseText(template)
	if err != nil {
		t.Fatal(err)
	}
	c := rendering(t, template)
	res, err := p.Render(t.Context(), c)
	if err != nil || res.Fault != nil {
		t.Fatalf("Render %s: %v, %v", template, res.Fault, err)
	}
	bound, err := tmpl.Bind(res.Pieces[0])
	if err != nil {
		t.Fatal(err)
	}
	b, err := bound.Append(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const fineTemplate = "{{ entity.username:upper() }}"

func TestPool_Render(t *testing.T) {
	p := pool(t, 1)
	for range 2 { // a call of functions between, in the same child
		if got := rendered(t, p, fineTemplate); got != "JANE" {
			t.Errorf("Render = %s", got)
		}
		if res := run(t, p, call(fine)); res.Fault != "" {
			t.Errorf("Run: %s", res.Fault)
		}
	}
	if n := len(pids(t, p, 1)); n != 1 {
		t.Errorf("%d children were started", n)
	}
	res, err := p.Render(t.Context(), rendering(t, fineTemplate, "a\n{{ nobody.x .. 1 }}", fineTemplate))
	want := "line 2, column 1: attempt to index a non-table object(nil)"
	if err != nil || res.Fault == nil || res.Fault.Error() != want || res.Script != 1 || res.Again || res.Pieces != nil || res.Took <= 0 {
		t.Errorf("Render = %+v, %v; want %s of script 1", res, err, want)
	}
	c := rendering(t, fineTemplate)
	c.Data = []byte("[")
	if res, err := p.Render(t.Context(), c); err != nil || res.Fault == nil || res.Fault.Error() != "the event's data is not a JSON object" {
		t.Errorf("Render without an object = %+v, %v", res, err)
	}
}

// TestPool_Render_ends: what may end otherwise another time, and what may not.
func TestPool_Render_ends(t *testing.T) {
	p := pool(t, 1)
	rendered(t, p, fineTemplate)
	endless := rendering(t, "{% while true do %}{% end %}")

	p.SetBounds(20*time.Millisecond, lua.MaxClock)
	res, err := p.Render(t.Context(), endless)
	if err != nil || res.Fault == nil || res.Fault.Error() != "used more than 0.02 s of CPU" || res.Again || res.Script != -1 {
		t.Errorf("too much CPU: %+v, %v", res, err)
	}
	p.SetBounds(lua.MaxCPU, 20*time.Millisecond)
	res, err = p.Render(t.Context(), endless)
	if err != nil || res.Fault == nil || res.Fault.Error() != "took more than 0.02 s" || !res.Again {
		t.Errorf("too long: %+v, %v", res, err)
	}
	p.SetBounds(lua.MaxCPU, lua.MaxClock)

	rendered(t, p, fineTemplate)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	res, err = p.Render(ctx, endless)
	if err != nil || res.Fault == nil || !strings.HasPrefix(res.Fault.Error(), "cut off") || !res.Again {
		t.Errorf("cut off: %+v, %v", res, err)
	}
	if _, err := p.Render(ctx, rendering(t, fineTemplate)); !errors.Is(err, lua.ErrBusy) {
		t.Errorf("no time left: %v; want ErrBusy", err)
	}
	if got := rendered(t, p, fineTemplate); got != "JANE" {
		t.Errorf("Render after them = %s", got)
	}
}

// TestCheckScript: the texts are those of golden cases elsewhere; here is what
// must not be told apart from a function's check, and what is right.
func TestCheckScript(t *testing.T) {
	for src, want := range map[string]string{
		"{{ a + 1 }}":                      "",
		"{{ a -- b }}{{ c }}":              "",
		"{{ [[}]] }}":                      "",
		"{% --[[ }} ]] %}":                 "",
		"{%  %}":                           "",
		"{{ function() end }}":             "",
		"{{ ... }}":                        "",
		"{% goto x %}{% ::x:: %}":          "",
		"{% local a <const> = 1 %}":        "line 1, column 1: {% local a <const> = 1 %}: syntax error near '<'",
		"{{ (a)(b) }}{{ (c) }}":            "",
		"{% f() %}{% (g)() %}":             "",
		"{% a = 1 %}x{% (g or h)() %}":     "",
		"{{ a\r\n+\r1 }}\r\n{% if b %}":    "line 3, column 1: {% if b %}: 'end' expected to close 'if' of line 3, found the end",
		"{{ \"__put\" }}{{ a.__put }}":     "",
		"{{ f(a.__put) }}":                 "line 1, column 1: {{ f(a.__put) }}: the name __put is taken",
		"{% function __put() end %}":       "line 1, column 1: {% function __put() end %}: the name __put is taken",
		"{{ 1 }}{% return %}":              "",
		"{{ a = 1 }}":                      "line 1, column 1: {{ a = 1 }}: not an expression: syntax error near '='",
		"{{ 1) or (2 }}":                   "line 1, column 1: {{ 1) or (2 }}: not an expression: syntax error near ')'",
		"{{ a end }}":                      "line 1, column 1: {{ a end }}: not an expression: syntax error near 'end'",
		"{{ 'a }}x{{ b' }}":                "line 1, column 1: {{ 'a }}: a string that is not closed in its line",
		"{{ [[a }}x{{ b]] }}":              "line 1, column 1: {{ [[a }}: a string that begins with '[[' or '[=[' and is not closed",
		"{% if a then --[[ %}{% ]] end %}": "line 1, column 1: {% if a then --[[ %}: a comment that begins with '--[[' or '--[=[' and is not closed",
	} {
		got := ""
		if err := lua.CheckScript(script(t, src)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("CheckScript of %q: %q; want %q", src, got, want)
		}
	}
}

// TestCheckScript_bombs: sources that would cost the parser or the compiler too
// much are refused, and fast.
func TestCheckScript_bombs(t *testing.T) {
	for name, src := range map[string]string{
		"brackets":        "{{ " + strings.Repeat("(", 30_000) + " }}",
		"tables":          "{{ " + strings.Repeat("{", 30_000) + " }}",
		"blocks":          strings.Repeat("{% do %}", 200) + "{% " + strings.Repeat("do ", 9000) + " %}",
		"operators":       "{{ 1" + strings.Repeat("+1", 15_000) + " }}",
		"concatenations":  "{{ a" + strings.Repeat("..a", 10_000) + " }}",
		"names":           "{% local x = 0 " + strings.Repeat(" a=b ", 6000) + "%}",
		"elseif":          "{% if a then " + strings.Repeat("elseif a then ", 1500) + " end %}",
		"functions":       "{% " + strings.Repeat("f=function() ", 20) + strings.Repeat("end ", 20) + " %}",
		"size":            "{% x = [[" + strings.Repeat("x", 60_000) + "]] %}",
		"text that swaps": strings.Repeat("{% if a then %}x", 100) + strings.Repeat("{% end %}", 100) + "{% " + strings.Repeat("do ", 500) + " %}",
	} {
		if err := lua.CheckScript(script(t, src)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestScriptNames(t *testing.T) {
	for src, want := range map[string][]string{
		"{{ a + b.c }}{{d}}{{e.f}}":                                             {"a", "b", "d", "e"},
		"{{ string.upper(a) }}{{ context.b }}{% echo(c, cjson) %}":              {"a", "c"},
		"{% for i, h in ipairs(hosts) do %}{{i}}{{h.x}}{% end %}{{h}}{{i + 1}}": {"h", "hosts", "i"},
		"{% for i = a, b, c do %}{{i}}{% end %}":                                {"a", "b", "c"},
		"{% local x = x %}{{x}}{% local y %}{{y}}":                              {"x"},
		"{% local function f(a, ...) return f(a, b) end %}{{f}}":                {"b"},
		"{% function g(a) c = a end %}{{ g(d) }}{{c}}":                          {"d"},
		"{% function o.m(a) end %}":                                             {"o"},
		"{% function o:m() return self end %}":                                  {"o"},
		"{% do local a = 1 end %}{{a}}":                                         {"a"},
		"{% repeat local a = b until a %}":                                      {"b"},
		"{% while a do local b = c end %}{{ {[d] = e, f = g, -h, not i, #j} }}": {"a", "c", "d", "e", "g", "h", "i", "j"},
		"{% if a then b() elseif c then d() else e() end %}":                    {"a", "b", "c", "d", "e"},
		"{{ a and b or c < d .. e }}{% x.y[z] = w %}":                           {"a", "b", "c", "d", "e", "w", "x", "z"},
		"{{ (function(a) return a, b end)(c) }}{{ a:b(c) }}":                    {"a", "b", "c"},
		"{{ a + }}": nil,
	} {
		if diff := cmp.Diff(want, lua.ScriptNames(script(t, src))); diff != "" {
			t.Errorf("ScriptNames of %s (-want +got):\n%s", src, diff)
		}
	}
}

// FuzzCheckScript: no template makes the check panic or take long, and what it
// accepts compiles where it is run, however its tags are cut.
func FuzzCheckScript(f *testing.F) {
	for _, s := range []string{
		"{{ a + 1 }}{% if x then %}y{% end %}", "{{ a --[[ }}x{{ ]] }}", "{% return %}", "{% goto a %}{% ::a:: %}", "{{ (a)(b) }}{% (c)() %}",
		"{{ 'a\\\r\nb' }}", "{%\rif a then\r\nb()end%}", "{{ [==[ }} ]==] }}", "{% for i=1,2 do %}{{i}}{% break %}{% end %}", "{{x}}{* y.z *}{{ \x00 }}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		tmpl, err := render.ParseText(src)
		if err != nil || tmpl.Script() == nil {
			return
		}
		s := tmpl.Script()
		names := lua.ScriptNames(s)
		if fault := lua.CheckScript(s); fault != nil {
			if fault.Reason == "" || len(names) > 0 {
				t.Fatalf("%q: %v, names %v", src, fault, names)
			}
			return
		}
		for _, c := range s.Codes() {
			if strings.Contains(c.Text, render.ScriptPut+"(") && !strings.ContainsAny(c.Text, "\"'[-") {
				t.Fatalf("%q calls %s", src, render.ScriptPut)
			}
		}
	})
}

func BenchmarkPool_Render(b *testing.B) {
	p := pool(b, 1)
	c := rendering(b, fineTemplate)
	for b.Loop() {
		if res, err := p.Render(b.Context(), c); err != nil || res.Fault != nil {
			b.Fatal(res.Fault, err)
		}
	}
}

func BenchmarkCheckScript(b *testing.B) {
	s := script(b, "{% for i, h in ipairs(hosts) do %}{{i}}: {{h.name:upper()}}{% end %}")
	for b.Loop() {
		if err := lua.CheckScript(s); err != nil {
			b.Fatal(err)
		}
	}
}
