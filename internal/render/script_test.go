package render

import (
	"errors"
	"strings"
	"testing"

	"eventhooks/internal/strictjson"

	"github.com/google/go-cmp/cmp"
)

// pieces are those of a script that has written its nodes in order, each value
// as given.
func pieces(t *Template, p Piece) []byte {
	var b []byte
	for i, n := range t.nodes {
		switch n.kind {
		case nodeText:
			b = AppendPiece(b, Piece{Node: i + 1, Kind: PieceLiteral})
		case nodeName, nodeExpr:
			p.Node = i + 1
			b = AppendPiece(b, p)
		}
	}
	return b
}

func TestBind_escapes(t *testing.T) {
	values := []Piece{
		{Kind: PieceString, Text: "a\"\n\xff"},
		{Kind: PieceNumber, Text: "1.50"},
		{Kind: PieceBool, Text: "true"},
		{Kind: PieceBool, Text: "false"},
		{Kind: PieceNil},
		{Kind: PieceJSON, Text: `{"a":"b"}`},
	}
	for _, c := range []struct {
		name  string
		parse func(string) (*Template, error)
		src   string
		want  []string
	}{
		{"text", ParseText, `<{{-x}}>`, []string{"<a\"\n\ufffd>", "<1.50>", "<true>", "<false>", "<>", `<{"a":"b"}>`}},
		{"text, not escaped", ParseText, `<{*-x*}>`, []string{"<a\"\n\ufffd>", "<1.50>", "<true>", "<false>", "<>", `<{"a":"b"}>`}},
		{"in a string", ParseJSON, `["{{-x}}"]`, []string{`["a\"\n` + "\ufffd" + `"]`, `["1.50"]`, `["true"]`, `["false"]`, `[""]`, `["{\"a\":\"b\"}"]`}},
		{"as a value", ParseJSON, `[{{-x}}]`, []string{`["a\"\n` + "\ufffd" + `"]`, `[1.50]`, `[true]`, `[false]`, `[null]`, `[{"a":"b"}]`}},
		{"as JSON, not escaped", ParseJSON, `[{*-x*}]`, []string{"!", `[1.50]`, `[true]`, `[false]`, `[]`, `[{"a":"b"}]`}},
		{"plain names among them", ParseJSON, `[{{x}}{% y() %}]`, []string{`["a\"\n` + "\ufffd" + `"]`, `[1.50]`, `[true]`, `[false]`, `[null]`, `[{"a":"b"}]`}},
		{"in a payload's text", parseLeafError, `"{{-x}}`, []string{"\"a\"\n\ufffd", `"1.50`, `"true`, `"false`, `"`, `"{"a":"b"}`}},
		{"in a payload's JSON", parseLeafError, `["{{-x}}"]`, []string{`["a\"\n` + "\ufffd" + `"]`, `["1.50"]`, `["true"]`, `["false"]`, `[""]`, `["{\"a\":\"b\"}"]`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmpl, err := c.parse(c.src)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tmpl.Append(nil, nil); !errors.Is(err, ErrUnbound) {
				t.Errorf("Append without Bind: %v; want ErrUnbound", err)
			}
			for i, v := range values {
				bound, err := tmpl.Bind(pieces(tmpl, v))
				if err != nil {
					t.Fatal(err)
				}
				got, err := bound.Append(nil, nil)
				if _, ok := errors.AsType[*JSONError](err); ok {
					got = []byte("!")
				} else if err != nil {
					t.Fatal(err)
				}
				if string(got) != c.want[i] {
					t.Errorf("%s with %c %q gives %s; want %s", c.src, v.Kind, v.Text, got, c.want[i])
				}
			}
		})
	}
}

func parseLeafError(src string) (*Template, error) {
	t, err := parseLeaf(src)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// TestBind_place: whether a value is inside a string is told by the text that
// was written, and not by the order of the template's.
func TestBind_place(t *testing.T) {
	tmpl, err := ParseJSON(`{% if a then %}["{% else %}[{% end %}{{x}}{% if a then %}"]{% else %}]{% end %}`)
	if err != nil {
		t.Fatal(err)
	}
	node := map[string]int{}
	for i, n := range tmpl.nodes {
		if n.kind != nodeStatement {
			node[n.text] = i + 1 // the tag's text is ""
		}
	}
	for _, c := range []struct {
		begin, before, end string // before is written as it is, by nobody's tag
		want               string
	}{
		{`["`, "", `"]`, `["a\"b"]`},
		{`[`, "", `]`, `["a\"b"]`},
		{`[`, `"c",`, `]`, `["c","a\"b"]`},
	} {
		b := AppendPiece(nil, Piece{Node: node[c.begin], Kind: PieceLiteral})
		b = AppendPiece(b, Piece{Kind: PieceString, Text: c.before})
		b = AppendPiece(b, Piece{Node: node[""], Kind: PieceString, Text: `a"b`})
		b = AppendPiece(b, Piece{Node: node[c.end], Kind: PieceLiteral})
		bound, err := tmpl.Bind(b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := bound.Append(nil, nil); err != nil || string(got) != c.want {
			t.Errorf("%s: Append = %s, %v; want %s", c.begin, got, err, c.want)
		}
	}
}

func TestBind_refuses(t *testing.T) {
	tmpl, err := ParseText(`a{{-x}}{% y() %}`)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"a text that is a tag":     AppendPiece(nil, Piece{Node: 2, Kind: PieceLiteral}),
		"a value that is a text":   AppendPiece(nil, Piece{Node: 1, Kind: PieceNil}),
		"a value of a statement":   AppendPiece(nil, Piece{Node: 3, Kind: PieceString, Text: "x"}),
		"no such node":             AppendPiece(nil, Piece{Node: 4, Kind: PieceNil}),
		"a text without a node":    AppendPiece(nil, Piece{Kind: PieceLiteral}),
		"a length without an end":  {'s', 1, 0xff},
		"a text that is cut off":   {'s', 1, 2, 'x'},
		"a kind that is none":      {'x', 1},
		"a kind without a node":    {'s'},
		"a node without an end":    {'s', 0xff},
		"a node of too many bytes": {'s', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0},
	} {
		if bound, err := tmpl.Bind(b); err == nil {
			t.Errorf("%s: Bind = %v; want an error", name, bound.nodes)
		}
	}
	plain, err := ParseText("a{{x}}")
	if err != nil {
		t.Fatal(err)
	}
	if bound, err := plain.Bind([]byte("whatever")); err != nil || bound != plain {
		t.Errorf("Bind of a template without a script = %v, %v; want it as it was", bound, err)
	}
}

func TestPayload_Bind(t *testing.T) {
	p, err := ParsePayload([]byte(`{"b":"{{x}} {{-y}}","a":[1,"{{ -z }}",{"c":"[{{-u}}]"}],"d":null,"e":"{{x}}"}`), true)
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, s := range p.Scripts() {
		fields = append(fields, s.Field)
	}
	if diff := cmp.Diff([]string{"b", "a.1", "a.2.c"}, fields); diff != "" {
		t.Fatalf("fields of scripts (-want +got):\n%s", diff)
	}
	v := Values{"x": "X"}
	if b, err := p.AppendJSON(nil, v); !errors.Is(err, ErrUnbound) || len(b) > 0 {
		t.Errorf("AppendJSON without Bind = %s, %v; want ErrUnbound", b, err)
	}
	bound, err := p.Bind([][]byte{
		pieces(p.scripts[0], Piece{Kind: PieceString, Text: `"1"`}),
		pieces(p.scripts[1], Piece{Kind: PieceNil}),
		pieces(p.scripts[2], Piece{Kind: PieceString, Text: `"3"`}),
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := bound.AppendJSON(nil, v)
	if want := `{"b":"\"1\" \"1\"","a":[1,"",{"c":"[\"\\\"3\\\"\"]"}],"d":null,"e":"X"}`; err != nil || string(got) != want {
		t.Errorf("AppendJSON = %s, %v; want %s", got, err, want)
	}
	got, err = bound.AppendForm(nil, v)
	if want := `a=%5B1%2C%22%22%2C%7B%22c%22%3A%22%5B%5C%22%5C%5C%5C%223%5C%5C%5C%22%5C%22%5D%22%7D%5D&b=%221%22+%221%22&d=&e=X`; err != nil || string(got) != want {
		t.Errorf("AppendForm = %s, %v; want %s", got, err, want)
	}
	if _, err := p.AppendJSON(nil, v); !errors.Is(err, ErrUnbound) {
		t.Errorf("AppendJSON of the payload that was bound: %v; want it as it was", err)
	}
	if _, err := p.Bind(nil); err == nil {
		t.Error("Bind without pieces: no error")
	}
}

// TestParseLeaf_statements: which strings with statements are JSON in a string.
func TestParseLeaf_statements(t *testing.T) {
	for src, want := range map[string]bool{
		`[{% for _, h in ipairs(hosts) do %}{"ip": "{{h.ip}}"},{% end %}{}]`: true,
		` {"a": {% if b then %}1.5e3{% else %}null{% end %}} `:               true,
		`[{% if up then %}UP{% else %}DOWN{% end %}]`:                        false,
		`[{% if up then %}"UP"{% else %}"DOWN"{% end %}]`:                    true,
		`[{% if up then %}{{name}}{% end %}]`:                                true,
		`[{% if up then %}{{name}}{% end %}] {{name}}`:                       false,
		`[{% if up then %}{{name}}{% end %}] is up.`:                         false,
		`{% if up then %}[1]{% end %}`:                                       false,
		`["{% if up then %}]`:                                                false,
		`[{% x() %}] -`:                                                      false,
		`[{% x() %}--1]`:                                                     true,
	} {
		tmpl, err := parseLeaf(src)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		if tmpl.json != want {
			t.Errorf("%s: JSON %t; want %t", src, tmpl.json, want)
		}
	}
}

func TestScript_Fault(t *testing.T) {
	p, err := ParsePayload([]byte(`{"o":{"t":"é\n {% if a\r\n then %} {{ b\nor c }}{% end %}"}}`), true)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Scripts()[0]
	lines := strings.Split(s.Source, "\n")
	at := func(text string) int {
		for i, line := range lines {
			if strings.Contains(line, text) {
				return i + 1
			}
		}
		t.Fatalf("%q is not in %q", text, lines)
		return 0
	}
	for _, c := range []struct {
		line int
		want string
		from int // line of the template
	}{
		{at("if a"), "o.t: line 2, column 2: {% if a\r\n then %}: X", 2},
		{at("then"), "o.t: line 2, column 2: {% if a\r\n then %}: line 2 of the tag: X", 3},
		{at("or c"), "o.t: line 3, column 10: {{ b\nor c }}: line 2 of the tag: X", 4},
		{at(" end"), "o.t: line 4, column 8: {% end %}: X", 4},
		{0, "o.t: X", 1},
		{99, "o.t: line 4, column 8: {% end %}: X", 4},
	} {
		if got := s.Fault(c.line, "X").Error(); got != c.want {
			t.Errorf("Fault(%d) = %q; want %q", c.line, got, c.want)
		}
		if got := s.Line(c.line); got != c.from {
			t.Errorf("Line(%d) = %d; want %d", c.line, got, c.from)
		}
	}
}

// FuzzBind: no template and no pieces make it panic, and what comes out where
// JSON is due is JSON. As long as nothing is raw, a value never changes the
// result's shape.
func FuzzBind(f *testing.F) {
	for _, s := range []string{`{"a":"{{-x}}","b":{{x}}}`, `[{% if a then %}"{{x}}"{% end %}]`, `{"{{-x}}":{* x+1 *}}`, "{{-x}}{% --[[ %}\r\n{{y or\nz}}", `"\{{-x}}"`} {
		f.Add(s, `a"b\`, []byte{'t', 1, 's', 2, 1, '"'})
		f.Add(s, "\xff\x00", []byte{'z', 0, 'j', 2, 2, '{', '}'})
	}
	f.Fuzz(func(t *testing.T, src, value string, any []byte) {
		for _, parse := range []func(string) (*Template, error){ParseText, ParseJSON, parseLeafError} {
			tmpl, err := parse(src)
			if err != nil || tmpl.Script() == nil {
				continue
			}
			s := tmpl.Script()
			for line := range strings.Count(s.Source, "\n") + 2 {
				if e := s.Fault(line, "x"); line > 0 && e.Line == 0 || s.Line(line) < 1 {
					t.Fatalf("Fault(%d) of %q = %v", line, src, e)
				}
			}
			if bound, err := tmpl.Bind(any); err == nil {
				checkBound(t, src, bound)
			}
			if tmpl.raw || strings.Contains(src, `\u`) {
				continue
			}
			const mark = "\x00\x01\x02"
			var shapes []string
			for _, text := range []string{mark, value} {
				bound, err := tmpl.Bind(pieces(tmpl, Piece{Kind: PieceString, Text: text}))
				if err != nil {
					t.Fatalf("%s: %v", src, err)
				}
				b := checkBound(t, src, bound)
				if b == nil {
					break
				}
				if tmpl.json {
					b = []byte(shape(t, b))
				}
				shapes = append(shapes, string(b))
			}
			if strings.Contains(src, mark) || len(shapes) < 2 {
				continue
			}
			if want := strings.ReplaceAll(shapes[0], mark, strings.ToValidUTF8(value, "\ufffd")); shapes[1] != want {
				t.Fatalf("%s with %q gives %q; want %q", src, value, shapes[1], want)
			}
		}
	})
}

// checkBound renders a bound template; nil when it says that it cannot.
func checkBound(t *testing.T, src string, bound *Template) []byte {
	t.Helper()
	b, err := bound.Append([]byte{}, nil)
	if err != nil {
		if _, ok := errors.AsType[*JSONError](err); !ok && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("%s: %v", src, err)
		}
		return nil
	}
	if bound.json {
		if err := strictjson.Check(b, strictjson.Limits{}); err != nil {
			t.Fatalf("%s gives %s: %v", src, b, err)
		}
	}
	return b
}

func BenchmarkBind(b *testing.B) {
	p, err := ParsePayload([]byte(strings.Replace(slackPayload, "{{health}}", "{{health:upper()}}", 1)), true)
	if err != nil {
		b.Fatal(err)
	}
	v, err := ValuesOf(slackEvent)
	if err != nil {
		b.Fatal(err)
	}
	wrote := pieces(p.scripts[0], Piece{Kind: PieceString, Text: "UNHEALTHY"})
	dst := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		bound, err := p.Bind([][]byte{wrote})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := bound.AppendJSON(dst[:0], v); err != nil {
			b.Fatal(err)
		}
	}
}

// A literal costs the child nothing, however often it writes it: what is read
// here is bounded all the same.
func TestTemplate_Bind_literalsAgainAndAgain(t *testing.T) {
	tmpl, faults := ParseJSON(`{"a":1{% for i = 1, 64000 do %}` + strings.Repeat(" ", 60_000) + `{% end %}}`)
	if faults != nil {
		t.Fatal(faults)
	}
	var pieces []byte
	for range 64_000 {
		pieces = AppendPiece(pieces, Piece{Node: 3, Kind: PieceLiteral})
	}
	if _, err := tmpl.Bind(pieces); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Bind = %v; want ErrTooLarge", err)
	}
}
