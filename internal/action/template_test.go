package action_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/action"
	"eventhooks/internal/egress"
	"eventhooks/internal/hook"
	"eventhooks/internal/lua"
)

var update = flag.Bool("update", false, "rewrite the wants of testdata")

// section is one file of a case: `-- name --`, then its lines.
type section struct{ name, text string }

func readCase(t *testing.T, path string) (comment string, sections []section) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		name, ok := strings.CutPrefix(line, "-- ")
		if name, end := strings.CutSuffix(strings.TrimRight(name, "\r\n"), " --"); ok && end {
			sections = append(sections, section{name: name})
		} else if len(sections) == 0 {
			comment += line
		} else {
			sections[len(sections)-1].text += line
		}
	}
	for i := range sections {
		sections[i].text = strings.TrimSuffix(sections[i].text, "\n")
	}
	return comment, sections
}

// TestGolden runs the cases of testdata: what templates with expressions and
// statements make of an event. A case is a file of sections:
//
//	text, json     a body, its content type text/plain or application/json
//	payload, form  a payload, sent as JSON or as a form
//	header         the template of a header
//	values.json    the event's data; source balancer, event health
//	want           what is sent: the body, or the header's value
//	error          what is wrong with the hook, by field
//	render-error   why it does not render
//	names          the top-level names that it uses
//
// -update rewrites the last four, of which only want need not be asked for.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	r := newLuaRunner(t, 1)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			comment, sections := readCase(t, path)
			got := runCase(t, r, sections)
			for i, s := range sections {
				if out, ok := got[s.name]; ok && *update {
					sections[i].text = out
				} else if diff := cmp.Diff(s.text, out); ok && diff != "" {
					t.Errorf("%s (-want +got):\n%s", s.name, diff)
				}
			}
			for _, name := range []string{"error", "render-error", "want"} {
				if !slices.ContainsFunc(sections, func(s section) bool { return s.name == name }) && got[name] != "" {
					t.Errorf("%s: %s", name, got[name])
				}
			}
			if *update {
				b := bytes.NewBufferString(comment)
				for _, s := range sections {
					fmt.Fprintf(b, "-- %s --\n%s\n", s.name, s.text)
				}
				if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func runCase(t *testing.T, r *action.Runner, sections []section) map[string]string {
	t.Helper()
	h := custom("http://127.0.0.1", "POST")
	h.Config.Headers = map[string]string{"Content-Type": "application/json"}
	ev := healthEvent
	for _, s := range sections {
		switch s.name {
		case "text", "json":
			h.Config.Body = &s.text
			if s.name == "text" {
				h.Config.Headers["Content-Type"] = "text/plain"
			}
		case "payload", "form":
			h.Config.Payload = []byte(s.text)
			if s.name == "form" {
				h.Config.Headers = nil
			}
		case "header":
			h.Config.Headers["X-Case"], h.Config.HeadersFormat = s.text, true
		case "values.json":
			ev.Data = []byte(s.text)
		}
	}
	got := map[string]string{"error": "", "render-error": "", "want": "", "names": strings.Join(action.Names(h), " ")}
	faults := action.Check(h)
	if len(faults) > 0 {
		var lines []string
		for _, field := range slices.Sorted(maps.Keys(faults)) {
			lines = append(lines, field+": "+faults[field])
		}
		got["error"] = strings.Join(lines, "\n")
		return got
	}
	req, err := r.Request(h, ev, now)
	switch {
	case err != nil:
		got["render-error"] = err.Error()
	case h.Config.HeadersFormat:
		got["want"] = strings.Join(req.Headers["X-Case"], "\n")
	default:
		got["want"] = string(req.Body)
	}
	return got
}

// withBody is a webhook-custom hook with a body of plain text.
func withBody(url, body string) hook.Hook {
	h := custom(url, "POST")
	h.Config.Headers = map[string]string{"Content-Type": "text/plain"}
	h.Config.Body = &body
	return h
}

// templateRunner is a Runner that calls receivers on this machine and renders
// with the children of pool.
func templateRunner(t testing.TB, pool *lua.Pool) *action.Runner {
	t.Helper()
	c, err := egress.New(egress.Options{AllowLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return action.New(action.Options{Client: c, Lua: pool})
}

func newPool(t testing.TB, size int) *lua.Pool {
	t.Helper()
	p := lua.NewPool(lua.Options{Size: size})
	t.Cleanup(p.Close)
	return p
}

// TestDo_template: headers and a payload with several templates that need Lua
// are rendered in one call, and the request is sent as it was rendered.
func TestDo_template(t *testing.T) {
	url, got := receiver(t, status(http.StatusOK))
	pool := newPool(t, 1)
	r := templateRunner(t, pool)
	h := custom(url, "POST")
	h.Config.Headers = map[string]string{"Content-Type": "application/json", "x-a": "{{health:upper()}}", "x-b": "{{port + 1}}", "x-c": "{{port}}"}
	h.Config.HeadersFormat = true
	h.Config.Payload = []byte(`{"a":"{{health:sub(1, 2)}}","b":{"c":["{% for i = 1, 3 do %}{{i}},{% end %}"]},"d":"{{big}}"}`)
	for range 2 {
		out := r.Do(t.Context(), h, healthEvent, now)
		if out.Verdict != hook.Success {
			t.Fatalf("Do = %+v", out)
		}
		req := <-got
		if want := `{"a":"un","b":{"c":["1,2,3,"]},"d":"12345678901234567890"}`; req.body != want {
			t.Errorf("body = %s; want %s", req.body, want)
		}
		for name, want := range map[string]string{"X-A": "UNHEALTHY", "X-B": "3001", "X-C": "3000"} {
			if value := req.header.Get(name); value != want {
				t.Errorf("%s: %q; want %q", name, value, want)
			}
		}
	}
}

// TestRequest_oneCall: the templates of a request run in one call, and not one
// each: libraries are made for a call, so they show it.
func TestRequest_oneCall(t *testing.T) {
	r := templateRunner(t, newPool(t, 1))
	h := custom("http://127.0.0.1", "POST")
	const count = "{% string.n = (string.n or 0) + 1 %}{{(string.n)}}"
	h.Config.Headers = map[string]string{"Content-Type": "application/json", "x-a": count, "x-b": count}
	h.Config.HeadersFormat = true
	h.Config.Payload = []byte(`{"a":"` + count + `","b":["[` + count + `]"]}`)
	for range 2 {
		req, err := r.Request(h, healthEvent, now)
		got := fmt.Sprint(req.Headers["X-A"], req.Headers["X-B"], string(req.Body))
		if want := `[1] [2]{"a":"3","b":["[4]"]}`; err != nil || got != want {
			t.Errorf("Request = %s, %v; want %s", got, err, want)
		}
	}
}

// TestRequest_plainNeedsNoLua: without expressions and statements nothing is
// asked of a child.
func TestRequest_plainNeedsNoLua(t *testing.T) {
	h := withBody("http://127.0.0.1", "{{health}} {*context.port*}{# a remark #}")
	if req, err := newRunner(t, nil).Request(h, healthEvent, now); err != nil || string(req.Body) != "unhealthy 3000" {
		t.Errorf("Request without a pool = %s, %v", req.Body, err)
	}
}

// TestDo_templateFaults: what ends as what.
func TestDo_templateFaults(t *testing.T) {
	r := templateRunner(t, newPool(t, 1))
	for _, c := range []struct{ name, body, want string }{
		{"an error of Lua", "a\n{{ nothing.x .. 1 }}", "render body: line 2, column 1: attempt to index a non-table object(nil)"},
		{"a raised error", "{% error('no', 0) %}", "render body: no"},
		{"a raised error with its place", "{% if port then\nerror('no')\nend %}", "render body: line 1, column 1: line 2 of the tag: no"},
		{"too much CPU", "{% while true do %}{% end %}", "render: used more than 1 s of CPU"},
		{"too much text", "{% for i = 1, 600 do echo(string.rep('x', 1024)) end %}", "render body: the rendered text is larger than 256 KB"},
		{"too much text, swallowed", "{% for i = 1, 600 do pcall(echo, string.rep('x', 1024)) end %}", "render body: the rendered text is larger than 256 KB"},
		{"more than a body may have", "{% for i = 1, 300 do echo(string.rep('x', 1024)) end %}", "render body: the rendered text is larger than 256 KB"},
		{"too many pieces", "{% while true do %}x{% end %}", "render body: more than 65536 values and texts are written"},
		{"what cannot be text", "{% local t = {} t.t = t %}{{t}}", "render body: line 1, column 27: this table cannot be JSON: excessive depth"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := withBody("http://127.0.0.1:1", c.body)
			if faults := action.Check(h); len(faults) > 0 {
				t.Fatalf("Check = %v", faults)
			}
			out := r.Do(t.Context(), h, healthEvent, now)
			if strings.Contains(c.want, "CPU") && out.Error == "render: took more than 3 s" {
				return // a machine that is too busy for a second of CPU in three
			}
			if out.Verdict != hook.Final || out.Reason != hook.ReasonUnrendered || out.Error != c.want {
				t.Errorf("Do = %+v; want a final failure: %s", out, c.want)
			}
		})
	}
}

func TestDo_templateLater(t *testing.T) {
	pool := newPool(t, 1)
	r := templateRunner(t, pool)
	if _, err := r.Request(withBody("http://127.0.0.1:1", "{{1}}"), healthEvent, now); err != nil { // a child waits
		t.Fatal(err)
	}
	// Cut off in the middle: the place was there, the time was not enough.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	out := r.Do(ctx, withBody("http://127.0.0.1:1", "{% while true do %}{% end %}"), healthEvent, now)
	if out.Verdict != hook.Retryable || out.Error != "render: cut off: the time for the attempt was up" {
		t.Errorf("Do = %+v; want a retryable failure", out)
	}
	// No place: nothing was attempted.
	out = r.Do(ctx, withBody("http://127.0.0.1:1", "{{1}}"), healthEvent, now)
	if out.Verdict != hook.Unmade || out.Error != "not rendered: no process was free to run it in time" {
		t.Errorf("Do = %+v; want an attempt that was not made", out)
	}
	if _, err := r.Request(withBody("http://127.0.0.1:1", "{{1}}"), healthEvent, now); err != nil {
		t.Errorf("Request after them: %v", err)
	}
	// A pool that is gone, and none.
	pool.Close()
	out = r.Do(t.Context(), withBody("http://127.0.0.1:1", "{{1}}"), healthEvent, now)
	if out.Verdict != hook.Retryable || out.Error != "render: the pool is closed" {
		t.Errorf("Do = %+v; want a retryable failure", out)
	}
	out = newRunner(t, nil).Do(t.Context(), withBody("http://127.0.0.1:1", "{{1}}"), healthEvent, now)
	if out.Verdict != hook.Retryable || out.Error != "nothing here runs the Lua of templates" {
		t.Errorf("Do = %+v; want a retryable failure", out)
	}
}

// TestDo_templateHalfTheTime: templates take at most half of the hook's timeout,
// however long the caller has. What they would do in the whole of it, and within
// all other bounds, is cut off, and the receiver is not called.
func TestDo_templateHalfTheTime(t *testing.T) {
	url, got := receiver(t, status(http.StatusOK))
	r := templateRunner(t, newPool(t, 1))
	if _, err := r.Request(withBody(url, "{{1}}"), healthEvent, now); err != nil { // a child waits
		t.Fatal(err)
	}
	h := withBody(url, "{% while os.clock() < 0.9 do %}{% end %}")
	h.Config.Timeout = 1
	out := r.Do(t.Context(), h, healthEvent, now)
	if out.Verdict != hook.Retryable || out.Error != "render: cut off: the time for the attempt was up" || len(got) > 0 {
		t.Errorf("Do = %+v, %d requests; want it cut off before any", out, len(got))
	}
}

// TestDo_templateTimeCounts: the receiver has what the templates left of the
// hook's timeout, and no more. How much that was is in the error.
func TestDo_templateTimeCounts(t *testing.T) {
	done := make(chan struct{})
	url, _ := receiver(t, func(http.ResponseWriter, *http.Request) { <-done })
	defer close(done)
	h := withBody(url, "{% while os.clock() < 0.1 do %}{% end %}")
	h.Config.Timeout = 2
	r := templateRunner(t, newPool(t, 1))
	if _, err := r.Request(withBody(url, "{{1}}"), healthEvent, now); err != nil { // a child waits
		t.Fatal(err)
	}
	out := r.Do(t.Context(), h, healthEvent, now)
	text, ok := strings.CutPrefix(out.Error, "no answer within ")
	left, err := time.ParseDuration(strings.ReplaceAll(text, " ", ""))
	if !ok || err != nil || left > 1900*time.Millisecond {
		t.Errorf("Do = %+v; want no answer within 1.9 s or less", out)
	}
}

// TestRequest_templatesAreApart: what one template does to values, variables and
// libraries of its own, no other sees, nor does the next request.
func TestRequest_templatesAreApart(t *testing.T) {
	r := templateRunner(t, newPool(t, 1))
	h := custom("http://127.0.0.1", "POST")
	h.Config.Headers = map[string]string{"Content-Type": "application/json"}
	h.Config.Payload = []byte(`{"a":"{% e.x = 2 health = 'gone' y = 1 context.z = 5 %}{{e.x}}{{health}}{{y}}{{z}}","b":"{{e.x}}{{health}}{{y}}{{z}}{{#e}}","c":"{{e.x}}{{health}}"}`)
	ev := healthEvent
	ev.Data = []byte(`{"health":"up","e":{"x":1}}`)
	for range 2 {
		req, err := r.Request(h, ev, now)
		if want := `{"a":"2gone15","b":"1up0","c":"1up"}`; err != nil || string(req.Body) != want {
			t.Errorf("Request = %s, %v; want %s", req.Body, err, want)
		}
	}
}

// TestRequest_bodyWins: the templates of a payload are not run where there is a
// body.
func TestRequest_bodyWins(t *testing.T) {
	r := templateRunner(t, newPool(t, 1))
	for body, want := range map[string]string{"{{ port + 1 }}": "3001", "{{port}}": "3000", "plain": "plain"} {
		h := withBody("http://127.0.0.1", body)
		h.Config.Payload = []byte(`{"a":"{{ error('run') }}"}`)
		if req, err := r.Request(h, healthEvent, now); err != nil || string(req.Body) != want {
			t.Errorf("Request = %s, %v; want %s", req.Body, err, want)
		}
		h.Config.BodyFormat = false
		if req, err := r.Request(h, healthEvent, now); err != nil || string(req.Body) != body {
			t.Errorf("Request = %s, %v; want %s", req.Body, err, body)
		}
	}
}

// TestRequest_templateShowsNoSecrets: literal text never reaches a child, and no
// error shows a tag, which may be part of a secret header.
func TestRequest_templateShowsNoSecrets(t *testing.T) {
	r := templateRunner(t, newPool(t, 1))
	h := withBody("http://127.0.0.1", "x")
	h.Config.HeadersFormat = true
	h.Config.Headers = map[string]string{"Authorization": "Bearer PASSWORD{{ nothing.PASSWORD2.x or 'PASSWORD3' }}"}
	_, err := r.Request(h, healthEvent, now)
	if err == nil || strings.Contains(err.Error(), "PASSWORD") {
		t.Errorf("Request: %v; want an error that does not show them", err)
	}
	if names := action.Names(h); len(names) > 0 {
		t.Errorf("Names = %v; want none", names)
	}
	h.Config.Headers = map[string]string{"Authorization": "Bearer PASSWORD{{ health:upper() }}"}
	req, err := r.Request(h, healthEvent, now)
	if want := []string{"Bearer PASSWORDUNHEALTHY"}; err != nil || !slices.Equal(req.Headers["Authorization"], want) {
		t.Errorf("Request = %v, %v; want %v", req.Headers, err, want)
	}
	h.Config.Headers = map[string]string{"X-A": `{{ "a\nb" }}`}
	if _, err := r.Request(h, healthEvent, now); err == nil || !strings.Contains(err.Error(), "control characters") {
		t.Errorf("Request with a line's end in a header: %v; want an error", err)
	}
}

// TestCheck_templates: what is wrong is told of every template, those of a
// payload that body wins over included, and without running anything.
func TestCheck_templates(t *testing.T) {
	h := withBody("http://127.0.0.1", "{% while true do %}{% end %}{{ error('never run') }}")
	h.Config.HeadersFormat = true
	h.Config.Headers["X-A"] = "{{ a b }}"
	h.Config.Payload = []byte(`{"a":"{{ 1 + }}","b":["{% end %}"],"c":"{{fine}}"}`)
	want := hook.FieldErrors{
		"config.headers.X-A": "line 1, column 1: {{ a b }}: not an expression: syntax error near 'b'",
		"config.payload.a":   "line 1, column 1: {{ 1 + }}: not an expression: it ends too early",
		"config.payload.b.0": "line 1, column 1: {% end %}: there is nothing open for 'end' to close",
	}
	if diff := cmp.Diff(want, action.Check(h)); diff != "" {
		t.Errorf("Check (-want +got):\n%s", diff)
	}
	for name, body := range map[string]string{
		"config.body: more than 32 KB of expressions and statements": "{% x = [[" + strings.Repeat("x", 33<<10) + "]] %}",
		"config.body: line 1, column 1: {{((((((((((((((((((((((((((((((((((((((((((((((((((((((((((…: nested more than 500 deep, the operators, indexes and calls of one expression included": "{{" + strings.Repeat("(", 600) + "1" + strings.Repeat(")", 600) + "}}",
	} {
		h := withBody("http://127.0.0.1", body)
		faults := action.Check(h)
		if got := "config.body: " + faults["config.body"]; got != name {
			t.Errorf("Check = %v; want %s", faults, name)
		}
	}
}

// BenchmarkRequest_lua is a request whose payload needs Lua, with a child that
// runs already; BenchmarkRequest_plain the same without.
func BenchmarkRequest_lua(b *testing.B) {
	benchRequest(b, `{"text":"Upstream {{upstream_id}} is {{health:upper()}}","blocks":[{"type":"section","text":"{{hostname}}:{{port}} {{entity.note}}"}]}`)
}

func BenchmarkRequest_luaLoop(b *testing.B) {
	benchRequest(b, `{"text":"Upstream {{upstream_id}} is {{health:upper()}}","blocks":[{"type":"section","text":"{% for _, t in ipairs(entity.tags) do %}{{t}} {% end %}{{hostname}}:{{port}} {{entity.note}}"}]}`)
}

func BenchmarkRequest_plain(b *testing.B) {
	benchRequest(b, `{"text":"Upstream {{upstream_id}} is {{health}}","blocks":[{"type":"section","text":"{{hostname}}:{{port}} {{entity.note}}"}]}`)
}

// BenchmarkRequest_luaFirst is the first request of a process: a child starts.
func BenchmarkRequest_luaFirst(b *testing.B) {
	h := withBody("http://127.0.0.1", "{{health:upper()}}")
	ev := oneKB()
	for b.Loop() {
		pool := lua.NewPool(lua.Options{Size: 1})
		if _, err := templateRunner(b, pool).Request(h, ev, now); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		pool.Close()
		b.StartTimer()
	}
}

func benchRequest(b *testing.B, payload string) {
	b.Helper()
	r, ev := templateRunner(b, newPool(b, 1)), oneKB()
	h := custom("http://127.0.0.1", "POST")
	h.Config.Headers = map[string]string{"content-type": "application/json"}
	h.Config.Payload = []byte(payload)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Request(h, ev, now); err != nil {
			b.Fatal(err)
		}
	}
}
