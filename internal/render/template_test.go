package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"

	"github.com/google/go-cmp/cmp"
)

func TestValuesOf(t *testing.T) {
	v, err := ValuesOf(hook.Event{Source: "crud", Event: "admins", Data: []byte(`{"source":"theirs","n":1.0}`)})
	if err != nil {
		t.Fatal(err)
	}
	want := Values{"source": "crud", "event": "admins", "n": json.Number("1.0")}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("ValuesOf (-want +got):\n%s", diff)
	}
	for _, data := range []string{``, `[]`, `"x"`, `{"a":1,"a":2}`, `{`} {
		if v, err := ValuesOf(hook.Event{Data: []byte(data)}); err == nil {
			t.Errorf("ValuesOf(%s) = %v; want an error", data, v)
		}
	}
}

func TestParse_limits(t *testing.T) {
	tags := func(n int) string { return strings.Repeat("{{x}}", n) }
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	payload := func(value string) func() error {
		return func() error { _, err := ParsePayload([]byte(`{"a":`+value+`}`), true); return err }
	}
	text := func(src string) func() error {
		return func() error { _, err := ParseText(src); return err }
	}
	for _, c := range []struct {
		name  string
		parse func() error
		want  string // "" parses
	}{
		{"text as long as may be", text(strings.Repeat("x", MaxSource)), ""},
		{"text one byte longer", text(strings.Repeat("x", MaxSource+1)), "longer than 65536 bytes"},
		{"as many tags as may be", text(tags(MaxTags)), ""},
		{"one tag more", text(tags(MaxTags + 1)), "line 1, column 1281: {{x}}: more than 256 tags"},
		{"a path as deep as may be", text("{{a" + strings.Repeat(".a", MaxDepth-1) + "}}"), ""},
		{"a path one name deeper", text("{{" + strings.Repeat("a.", MaxDepth) + "a}}"), "line 1, column 1: " + shorten("{{"+strings.Repeat("a.", MaxDepth)+"a}}") + ": more than 32 names in a path"},
		{"text that is not UTF-8", text("a\xffb"), "not UTF-8"},
		{"a payload as deep as may be", payload(deep(MaxDepth - 1)), ""},
		{"a payload one deeper", payload(deep(MaxDepth)), "/a" + strings.Repeat("/0", MaxDepth-1) + ": more than 32 objects and arrays inside each other"},
		{"a payload too long", payload(`"` + strings.Repeat("x", MaxSource) + `"`), "longer than 65536 bytes"},
		{"tags of a payload are counted together", payload(`["` + tags(MaxTags) + `","{{x}}"]`), "more than 256 tags"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if err := c.parse(); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("error %q; want %q", got, c.want)
			}
		})
	}
}

func TestAppend_limits(t *testing.T) {
	v := Values{"k": strings.Repeat("x", 1<<10), "quote": strings.Repeat(`"`, MaxOutput/2+1), "list": []any{strings.Repeat("x", MaxOutput)}}
	must := func(tmpl *Template, err error) func([]byte, Values) ([]byte, error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return tmpl.Append
	}
	payload := func(object string) *Payload {
		t.Helper()
		p, err := ParsePayload([]byte(object), true)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	k := MaxOutput >> 10
	for _, c := range []struct {
		name string
		run  func([]byte, Values) ([]byte, error)
		want int // length, -1 ErrTooLarge
	}{
		{"as much as may be", must(ParseText(strings.Repeat("{{k}}", k))), MaxOutput},
		{"one byte more", must(ParseText(strings.Repeat("{{k}}", k-1) + "x{{k}}")), -1},
		{"escapes count", must(ParseJSON(`"{{quote}}"`)), -1},
		{"a list in a string", must(ParseJSON(`"{{list}}"`)), -1},
		{"a list as a value", must(ParseJSON(`{{list}}`)), -1},
		{"a payload as JSON", payload(`{"a":["` + strings.Repeat("{{k}}", k) + `"]}`).AppendJSON, -1},
		{"a payload as a form", payload(`{"a":"` + strings.Repeat("{{k}}", k) + `"}`).AppendForm, -1},
		{"a payload's form is escaped", payload(`{"a":"{{quote}}"}`).AppendForm, -1},
		{"JSON in a string", payload(`{"a":"[\"{{list}}\"]"}`).AppendJSON, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := c.run([]byte("before"), v)
			if c.want < 0 {
				if !errors.Is(err, ErrTooLarge) || string(b) != "before" {
					t.Errorf("got %d bytes, %v; want what was there before, ErrTooLarge", len(b), err)
				}
				return
			}
			if err != nil || len(b) != len("before")+c.want {
				t.Errorf("got %d bytes, %v; want %d", len(b), err, len("before")+c.want)
			}
		})
	}
}

func TestAppend_errorsShowNoValues(t *testing.T) {
	tmpl, err := ParseJSON(`{"a":"{* secret *}"}`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tmpl.Append(nil, Values{"secret": `hunter2" :`})
	var je *JSONError
	if !errors.As(err, &je) || je.Err == nil {
		t.Fatalf("Append: %v; want a *JSONError that says why", err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows a value: %v", err)
	}
}

func TestTemplate_concurrently(t *testing.T) {
	p, err := ParsePayload([]byte(`{"t":"{{a}}","b":"[{{a}}]","o":{"x":"{{b}}"}}`), true)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				b, err := p.AppendJSON(nil, Values{"a": "1", "b": "2"})
				if want := `{"t":"1","b":"[\"1\"]","o":{"x":"2"}}`; err != nil || string(b) != want {
					t.Errorf("AppendJSON = %s, %v; want %s", b, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNames_areNotShared(t *testing.T) {
	tmpl, err := ParseText("{{b}}{{a}}{{b.c}}")
	if err != nil {
		t.Fatal(err)
	}
	names := tmpl.Names()
	if diff := cmp.Diff([]string{"a", "b"}, names); diff != "" {
		t.Fatalf("Names (-want +got):\n%s", diff)
	}
	names[0] = "changed"
	if got := tmpl.Names()[0]; got != "a" {
		t.Errorf("Names()[0] = %q after a caller changed its copy; want a", got)
	}
}

// FuzzText: never a panic; a value is written as it is and never parsed again,
// which shows in that it can be put in afterwards as well.
func FuzzText(f *testing.F) {
	for _, s := range []string{"{{x}}", "a{{ x.y }}b{*x*}{# c #}\n{-raw-}{{x}}{-raw-}\\{{x}}", "\\\\{{x}}", "{{{", "{-", "{{x[\"y\"]}}", "{%", "{(a)}"} {
		f.Add(s, "{{x}}\\\"")
	}
	f.Fuzz(func(t *testing.T, src, value string) {
		tmpl, err := ParseText(src)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Reason == "" {
				t.Fatalf("ParseText: %#v; want an *Error with a reason", err)
			}
			return
		}
		const mark = "\x00\x01\x02"
		if strings.Contains(src, mark) || tmpl.Script() != nil { // FuzzBind has those
			return
		}
		marked, err := tmpl.Append(nil, Values{"x": mark})
		if err != nil {
			t.Fatal(err)
		}
		got, err := tmpl.Append(nil, Values{"x": value})
		if errors.Is(err, ErrTooLarge) {
			return
		}
		if want := strings.ReplaceAll(string(marked), mark, value); err != nil || string(got) != want {
			t.Fatalf("Append = %q, %v; want %q", got, err, want)
		}
	})
}

// FuzzJSON: what ParseJSON accepts renders to JSON or to an error, and as long
// as nothing is raw a value never changes the result's shape.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":"{{x}}","b":{{x}}}`, `[{{x}},{{x}}]`, `{"{{x}}":{* x *}}`, `"\\{{x}}\"{{x}}"`, `"\{{x}}"`, `{{x}}{{x}}`, `"\u00{{x}}"`, `1{{x}}`} {
		f.Add(s, `{"x":"a\"b\\"}`)
		f.Add(s, `{"x":[1,{"y":null}]}`)
		f.Add(s, `{"x":5}`)
	}
	f.Fuzz(func(t *testing.T, src, data string) {
		v, err := ValuesOf(hook.Event{Data: []byte(data)})
		if err != nil {
			return
		}
		tmpl, err := ParseJSON(src)
		if err != nil || tmpl.Script() != nil {
			return
		}
		b, err := tmpl.Append(nil, v)
		if err != nil {
			return
		}
		if err := strictjson.Check(b, strictjson.Limits{}); err != nil {
			t.Fatalf("%s with %s gave %s: %v", src, data, b, err)
		}
		x, ok := v["x"].(string)
		const mark = "\x00\x01\x02"
		if !ok || tmpl.raw || strings.Contains(src, `\u`) {
			return
		}
		v["x"] = mark
		marked, err := tmpl.Append(nil, v)
		if err != nil {
			t.Fatalf("%s renders with %s and not with another string: %v", src, data, err)
		}
		want := strings.ReplaceAll(shape(t, marked), mark, x)
		if got := shape(t, b); got != want {
			t.Fatalf("%s with %s gave %s; want %s", src, data, got, want)
		}
	})
}

// shape writes JSON in a form in which strings need no escapes, so that a value
// can be put into it.
func shape(t *testing.T, data []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var b strings.Builder
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%T %v;", tok, tok)
	}
}

// FuzzPayload: a payload always becomes JSON or an error, and a string of it
// stays one string, with the text that its template makes alone.
func FuzzPayload(f *testing.F) {
	for _, s := range []string{"{{x}}", "[\"{{x}}\",{{x}}]", "{\"a\":\"\\\"{{x}}\"}", " {\"a\":{*x*}}", "[{{x}}] {{x}}", "a\n\"{{x}}\\"} {
		f.Add(s, `{"x":"a\"b\\","y":1}`)
		f.Add(s, `{"x":{"y":[1.0]}}`)
	}
	f.Fuzz(func(t *testing.T, src, data string) {
		v, err := ValuesOf(hook.Event{Data: []byte(data)})
		if err != nil {
			return
		}
		leaf, err := strictjson.Encode(src)
		if err != nil || !utf8.ValidString(src) {
			return
		}
		object := `{"t":` + string(leaf) + `,"o":[{"t":` + string(leaf) + `}]}`
		p, err := ParsePayload([]byte(object), true)
		if err != nil || len(p.Scripts()) > 0 {
			return
		}
		b, err := p.AppendJSON(nil, v)
		if err != nil {
			return
		}
		var got struct {
			T string
			O []struct{ T string }
		}
		if err := strictjson.Check(b, strictjson.Limits{}); err != nil {
			t.Fatalf("%s with %s gave %s: %v", object, data, b, err)
		}
		if err := json.Unmarshal(b, &got); err != nil || len(got.O) != 1 || got.O[0].T != got.T {
			t.Fatalf("%s with %s gave %s: %v", object, data, b, err)
		}
		tmpl, perr := parseLeaf(src)
		if perr != nil {
			t.Fatalf("parseLeaf(%q): %v", src, perr)
		}
		if want, err := tmpl.Append(nil, v); err != nil || string(want) != got.T {
			t.Fatalf("the string is %q, its template alone gives %q, %v", got.T, want, err)
		}
		if _, err := p.AppendForm(nil, v); err != nil && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("AppendForm: %v", err)
		}
	})
}

const slackPayload = `{"text":"Upstream {{upstream_id}} is {{health}}","blocks":[
 {"type":"header","text":{"type":"plain_text","text":"{{source}} {{event}}"}},
 {"type":"section","text":{"type":"mrkdwn","text":"*{{hostname}}* at {{ip}}:{{port}} since {{meta.since}}"}},
 {"type":"divider"}]}`

var slackEvent = hook.Event{Source: "balancer", Event: "health", Data: []byte(
	`{"upstream_id":"3d2aaac6-0400-401d-aac0-3f6a1bd3b6b7","ip":"10.16.0.2","port":3000,"hostname":"web1.example.test","health":"unhealthy","meta":{"since":"2026-11-21T18:00:00Z"}}`)}

func BenchmarkParsePayload(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePayload([]byte(slackPayload), true); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	p, err := ParsePayload([]byte(slackPayload), true)
	if err != nil {
		b.Fatal(err)
	}
	v, err := ValuesOf(slackEvent)
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.AppendJSON(dst[:0], v); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendJSON_blocksInAString renders the same inside a JSON string,
// which is read once more to be sure that it is JSON.
func BenchmarkAppendJSON_blocksInAString(b *testing.B) {
	quoted, err := strictjson.Encode(slackPayload)
	if err != nil {
		b.Fatal(err)
	}
	p, err := ParsePayload([]byte(`{"blocks":`+string(quoted)+`}`), true)
	if err != nil {
		b.Fatal(err)
	}
	v, err := ValuesOf(slackEvent)
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.AppendJSON(dst[:0], v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValuesOf(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ValuesOf(slackEvent); err != nil {
			b.Fatal(err)
		}
	}
}
