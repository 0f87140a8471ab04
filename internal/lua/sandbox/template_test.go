package sandbox_test

import (
	"fmt"
	"strings"
	"testing"

	"eventhooks/internal/hook"
	"eventhooks/internal/lua/sandbox"
	"eventhooks/internal/render"
)

// write renders a template, with or without Lua, for an event with the data.
func write(t testing.TB, src, data string) (string, error) {
	t.Helper()
	ev := hook.Event{Source: "crud", Event: "consumers", Data: []byte(data)}
	v, err := render.ValuesOf(ev)
	if err != nil {
		return "", err
	}
	tmpl, err := render.ParseText(src)
	if err != nil {
		t.Fatal(err)
	}
	if s := tmpl.Script(); s != nil {
		out, fault := sandbox.New().Render(sandbox.Rendering{Scripts: []string{s.Source}, Data: ev.Data, Event: ev.Event, Source: ev.Source})
		if fault != nil {
			return "", fmt.Errorf("line %d: %s", fault.Line, fault.Text)
		}
		if tmpl, err = tmpl.Bind(out[0]); err != nil {
			t.Fatal(err)
		}
	}
	b, err := tmpl.Append(nil, v)
	return string(b), err
}

func TestSandbox_Render_faults(t *testing.T) {
	s := sandbox.New()
	for _, c := range []struct {
		source, data, want string
		line               int
	}{
		{"__put(1)\nx.y = 1", "{}", "attempt to index a non-table object(nil)", 2},
		{"error('no', 0)", "{}", "no", 0},
		{"error({})", "{}", "error with a table value", 0},
		{"for", "{}", "cannot be compiled", 0},
		{"__put('x', 1) __put(1, 2)", "{}", "", 0},
		{"__put(nil)", "{}", "bad argument #1 to __put (number expected, got nil)", 1},
		{"__put(1, {}, 1)", "{}", "bad argument #2 to __put (string expected, got table)", 1},
		{"", "[]", "the event's data is not a JSON object", 0},
		{"", "", "the event's data is not a JSON object", 0},
		{"", `{"a":`, "the event's data is not a JSON object", 0},
		{"setmetatable({}, {})", "{}", "attempt to call a non-function object", 1},
	} {
		out, fault := s.Render(sandbox.Rendering{Scripts: []string{"", c.source}, Data: []byte(c.data)})
		got, line := "", 0
		if fault != nil {
			got, line = fault.Text, fault.Line
		}
		if got != c.want || line != c.line || (out == nil) != (c.want != "") {
			t.Errorf("Render %q of %s: line %d, %q; want line %d, %q", c.source, c.data, line, got, c.line, c.want)
		}
	}
}

// plainTags are tags that hold plain names.
const plainTags = "{{x}}|{{x.a}}|{{x.a.b}}|{{x.0}}|{{x.1.a}}|{{x[\"a b\"]}}|{{context}}|{{context.x}}|{{type}}|{{end}}|{{__put}}|{{source}}"

// FuzzRender_plainNames: a plain name is the same beside Lua, whatever the
// event.
func FuzzRender_plainNames(f *testing.F) {
	for _, data := range []string{
		`{"x":{"a":{"b":12345678901234567890}},"type":"t","end":1,"__put":2}`, `{"x":[1.0,{"a":null}],"string":{},"context":[]}`,
		`{"x":[],"tostring":[[],{},null]}`, `{"x":{"a b":-0.0,"0":1e400,"1":{"a":[{}]}}}`, `{"x":"\u00e9\ud83d\ude00\u0000","source":"mine","ipairs":1}`,
		`{"x":[null,null,1],"context":{"x":5}}`, `{"x":{"":1,"a":true},"echo":"e","nil":1}`,
	} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data string) {
		want, err := write(t, plainTags, data)
		if err != nil {
			return
		}
		got, err := write(t, plainTags+"{{ '' }}", data)
		if err != nil || got != want {
			t.Fatalf("with %s beside Lua: %s, %v; without: %s", data, got, err, want)
		}
		// And so they are where everything has been touched, and nothing changed.
		got, err = write(t, "{% for k, v in pairs(context) do context[k] = v end %}"+plainTags, data)
		if err != nil || got != want {
			if strings.Contains(data, "context") || strings.Contains(data, "pairs") {
				return // values that hide what this uses
			}
			t.Fatalf("with %s after a statement: %s, %v; without: %s", data, got, err, want)
		}
	})
}

func BenchmarkSandbox_Render(b *testing.B) {
	tmpl, err := render.ParseText("{% for i, h in ipairs(hosts) do %}{{i}}: {{h.ip}} {% end %}{{ health:upper() }}")
	if err != nil {
		b.Fatal(err)
	}
	s := sandbox.New()
	c := sandbox.Rendering{Scripts: []string{tmpl.Script().Source}, Data: []byte(`{"health":"up","hosts":[{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}]}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, fault := s.Render(c); fault != nil {
			b.Fatal(fault)
		}
	}
}
