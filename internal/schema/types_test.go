package schema_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/schema"
)

// bases are the smallest documents of each handler.
var bases = map[string]string{
	"webhook":        `{"source":"a","handler":"webhook","config":{"url":"http://x.test/"}}`,
	"webhook-custom": `{"source":"a","handler":"webhook-custom","config":{"url":"http://x.test/","method":"POST"}}`,
	"log":            `{"source":"a","handler":"log","config":{}}`,
	"lambda":         `{"source":"a","handler":"lambda","config":{"functions":["return 1"]}}`,
}

// jsonTypes are a value of each type of JSON.
var jsonTypes = []string{`"x"`, `true`, `5`, `1.5`, `[]`, `{}`, `null`}

// fieldType is what is said of a value of each type, "" for nothing; of those
// that are not there, otherwise.
type fieldType struct {
	otherwise string
	of        map[string]string
}

func (f fieldType) said(value string) string {
	if s, ok := f.of[value]; ok {
		return s
	}
	return f.otherwise
}

func aString(ofX string) fieldType {
	return fieldType{"expected a string", map[string]string{`"x"`: ofX, `null`: ""}}
}

func required(f fieldType) fieldType {
	f.of[`null`] = "required field missing"
	return f
}

func aBoolean() fieldType {
	return fieldType{"expected a boolean", map[string]string{`true`: "", `null`: ""}}
}

func anInteger() fieldType {
	return fieldType{"expected an integer", map[string]string{`5`: "", `null`: ""}}
}

func aRecord() fieldType {
	return fieldType{"expected a record", map[string]string{`{}`: "", `null`: ""}}
}

func aMap() fieldType {
	return fieldType{"expected a map", map[string]string{`{}`: "", `null`: ""}}
}

func aSet() fieldType { return fieldType{"expected a set", map[string]string{`[]`: "", `null`: ""}} }

func ignored() fieldType { return fieldType{} }

func unknown() fieldType { return fieldType{otherwise: "unknown field"} }

// TestNewHook_types sends every field of every handler as every JSON type.
func TestNewHook_types(t *testing.T) {
	emptyFilter := aMap()
	emptyFilter.of[`{}`] = "expected at least one field; no filter is null"
	every := map[string]fieldType{
		"id":                 aString("expected a valid UUID"),
		"created_at":         ignored(),
		"updated_at":         ignored(),
		"source":             required(aString("")),
		"event":              aString(""),
		"handler":            required(aString("unknown type: x; expected one of: webhook, webhook-custom, log, lambda")),
		"on_change":          aBoolean(),
		"snooze":             anInteger(),
		"name":               aString(""),
		"enabled":            aBoolean(),
		"disabled_reason":    ignored(),
		"tags":               aSet(),
		"workspace":          aString(""),
		"filter":             emptyFilter,
		"retry":              aRecord(),
		"retry.max_attempts": anInteger(),
		"retry.max_age":      anInteger(),
		"retry.more":         unknown(),
		"warnings":           ignored(),
		"more":               unknown(),
	}
	webhook := map[string]fieldType{
		"config.url":                 required(aString("missing host in url")),
		"config.headers":             aMap(),
		"config.headers.X-A":         {"expected a string", map[string]string{`"x"`: ""}}, // null has no place in a map
		"config.secret":              aString(""),
		"config.old_secret_until":    ignored(),
		"config.ssl_verify":          aBoolean(),
		"config.timeout":             anInteger(),
		"config.signature_algorithm": aString("expected one of: sha256, sha1"),
	}
	custom := map[string]fieldType{
		"config.method":         required(aString("invalid value: x")),
		"config.headers_format": aBoolean(),
		"config.payload":        aMap(),
		"config.payload_format": aBoolean(),
		"config.body":           aString(""),
		"config.body_format":    aBoolean(),
	}
	functions := map[string]fieldType{
		"config.functions": {"expected an array", map[string]string{`[]`: "length must be at least 1", `null`: "required field missing"}},
	}
	tests := []struct {
		handler string
		config  string // what is said of a config {}; that of null is the same
		fields  []map[string]fieldType
		unknown []map[string]fieldType // the fields of other handlers
	}{
		{"webhook", "config.url: required field missing", []map[string]fieldType{every, webhook}, []map[string]fieldType{custom, functions}},
		{
			"webhook-custom", "config.method: required field missing; config.url: required field missing",
			[]map[string]fieldType{every, webhook, custom},
			[]map[string]fieldType{functions},
		},
		{"log", "", []map[string]fieldType{every}, []map[string]fieldType{webhook, custom, functions}},
		{"lambda", "config.functions: required field missing", []map[string]fieldType{every, functions}, []map[string]fieldType{webhook, custom}},
	}
	for _, tt := range tests {
		t.Run(tt.handler, func(t *testing.T) {
			fields := map[string]fieldType{}
			for _, list := range tt.unknown {
				for path := range list {
					if path != "config.headers.X-A" {
						fields[path] = unknown()
					}
				}
			}
			for _, list := range tt.fields {
				for path, f := range list {
					fields[path] = f
				}
			}
			for path, f := range fields {
				for _, value := range jsonTypes {
					want := ""
					if said := f.said(value); said != "" {
						want = path + ": " + said
					}
					check(t, set(t, bases[tt.handler], path, value), want)
				}
			}
			for _, value := range jsonTypes {
				want := "config: expected a record"
				if value == `{}` || value == `null` {
					want = tt.config
				}
				check(t, set(t, bases[tt.handler], "config", value), want)
			}
		})
	}
	t.Run("of an unknown handler nothing is said but that", func(t *testing.T) {
		for value, want := range map[string]string{`{"url":5,"more":[]}`: "", `null`: "", `[]`: "config: expected a record; ", `"x"`: "config: expected a record; "} {
			check(t, `{"source":"a","handler":"nope","config":`+value+`}`,
				want+"handler: unknown type: nope; expected one of: webhook, webhook-custom, log, lambda")
		}
	})
}

// TestNewHook_values checks what a value of the right type may be.
func TestNewHook_values(t *testing.T) {
	many := func(n int, element string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	long := func(n int) string { return `"` + strings.Repeat("a", n) + `"` }
	headers := func(n int) string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("X-", i)] = "v"
		}
		return string(encode(t, m))
	}
	const (
		empty     = "length must be at least 1"
		noControl = "must not contain control characters"
		noName    = "must not contain a slash or a control character"
	)
	tests := []struct {
		handler, path, value string
		said                 string // of the path, with a dot before it of what is below; "" when it is accepted
	}{
		{"log", "source", `""`, empty},
		{"log", "source", long(255), ""},
		{"log", "source", long(256), "length must be at most 255"},
		{"log", "source", `"a/b"`, noName},
		{"log", "source", `"a\nb"`, noName},
		{"log", "source", `"dao:crud é"`, ""},
		{"log", "event", `""`, empty},
		{"log", "event", long(255), ""},
		{"log", "event", long(256), "length must be at most 255"},
		{"log", "event", `"a/b"`, noName},
		{"log", "event", `"admins:create"`, ""},
		{"log", "workspace", `""`, empty},
		{"log", "workspace", long(255), ""},
		{"log", "workspace", `"` + strings.Repeat("é", 255) + `"`, ""}, // ingest counts characters
		{"log", "workspace", `"` + strings.Repeat("é", 256) + `"`, "length must be at most 255"},
		{"log", "workspace", `"a/b"`, ""},
		{"log", "workspace", `"a\u0000"`, noControl},
		{"log", "handler", `""`, empty},
		{"log", "handler", `"WEBHOOK"`, "unknown type: WEBHOOK; expected one of: webhook, webhook-custom, log, lambda"},
		{"log", "handler", long(200), "length must be at most 128"},
		{"log", "name", `""`, empty},
		{"log", "name", long(128), ""},
		{"log", "name", long(129), "length must be at most 128"},
		{"log", "name", `"a\tb"`, noControl},
		{"log", "id", `"C57340AB-9fed-40fd-bb7e-1cef8d37c2df"`, ""},
		{"log", "snooze", `0`, ""},
		{"log", "snooze", `31536000`, ""},
		{"log", "snooze", `31536001`, "value should be between 0 and 31536000"},
		{"log", "snooze", `-1`, "value should be between 0 and 31536000"},
		{"log", "snooze", `1e400`, "value should be between 0 and 31536000"},
		{"log", "snooze", `-1e400`, "value should be between 0 and 31536000"},
		{"log", "snooze", `1e2`, ""},
		{"log", "snooze", `5.0`, ""},
		{"log", "retry.max_attempts", `0`, "value should be between 1 and 50"},
		{"log", "retry.max_attempts", `51`, "value should be between 1 and 50"},
		{"log", "retry.max_age", `432000`, ""},
		{"log", "retry.max_age", `432001`, "value should be between 1 and 432000"},
		{"log", "tags", `["a","a"]`, ""},
		{"log", "tags", many(51, `"a"`), "length must be at most 50"},
		{"log", "tags", `[""]`, ".1: " + empty},
		{"log", "tags", `["a",null,5]`, ".2: expected a string; tags.3: expected a string"},
		{"log", "tags", `["a,b"]`, ".1: invalid tag 'a,b': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"},
		{"log", "tags", many(1, long(129)), ".1: length must be at most 128"},
		{"log", "filter", `{"health":["unhealthy"],"port":[{"numeric":["<",1024]}]}`, ""},
		{"log", "filter", `{"health":"unhealthy"}`, `.health: expected an array of alternatives, such as ["unhealthy"], or an object`},
		{"log", "filter", `{"a":["ok",["no"]]}`, `.a.2: expected a string, a number, true, false, null or an operator such as {"prefix": "a"}`},
		{"log", "filter", `{"a":[` + long(4096) + `]}`, "length must be at most 4096"},
		{"log", "filter", `{"a":[` + long(4086) + `]}`, ""},
		{"webhook", "config.url", `"example.test/x"`, "missing host in url"},
		{"webhook", "config.url", `"http:///x"`, "missing host in url"},
		{"webhook", "config.url", `"http://:80/"`, "missing host in url"},
		{"webhook", "config.url", `"//example.test/x"`, "missing scheme in url"},
		{"webhook", "config.url", `"ftp://example.test/"`, "scheme must be http or https"},
		{"webhook", "config.url", `"http://a:b@example.test/"`, "must not contain user info"},
		{"webhook", "config.url", `"http://example.test:0/"`, "could not parse url. invalid port"},
		{"webhook", "config.url", `"http://example.test:99999/"`, "could not parse url. invalid port"},
		{"webhook", "config.url", `"http://example.test/%zz"`, `could not parse url. invalid URL escape "%zz"`},
		{"webhook", "config.url", `"HTTPS://EXAMPLE.test:443/{{x}}?y=z#w"`, ""},
		{"webhook", "config.url", `""`, empty},
		{"webhook", "config.url", `"http://x/` + strings.Repeat("a", 4096) + `"`, "length must be at most 4096"},
		{"webhook", "config.secret", `""`, empty},
		{"webhook", "config.secret", long(1025), "length must be at most 1024"},
		{"webhook", "config.secret", `"[redacted]"`, `"[redacted]" keeps what is stored, and nothing is`},
		{"webhook", "config.timeout", `0`, "value should be between 1 and 30"},
		{"webhook", "config.timeout", `31`, "value should be between 1 and 30"},
		{"webhook", "config.signature_algorithm", `"sha1"`, ""},
		{"webhook", "config.headers", headers(100), ""},
		{"webhook", "config.headers", headers(101), "length must be at most 100"},
		{"webhook", "config.headers", `{"` + strings.Repeat("a", 256) + `":"v"}`, ""},
		{"webhook", "config.headers", `{"` + strings.Repeat("a", 257) + `":"v"}`, "." + strings.Repeat("a", 257) + ": length must be at most 256"},
		{"webhook", "config.headers", `{"X":""}`, ".X: " + empty},
		{"webhook", "config.headers", `{"X":5,"Y":` + long(8<<10+1) + `}`, ".X: expected a string; config.headers.Y: length must be at most 8192"},
		// What names and values may be is for the check of the action to say.
		{"webhook", "config.headers", `{"Host":"x","bad name":"x","X-A":"1","x-a":"2","":"x","X":"a\nb"}`, ""},
		{"webhook-custom", "config.method", `"post"`, "invalid value: post"},
		{"webhook-custom", "config.method", `"CONNECT"`, "invalid value: CONNECT"},
		{"webhook-custom", "config.method", `""`, empty},
		{"webhook-custom", "config.method", `"PROPFIND"`, ""},
		{"webhook-custom", "config.method", long(33), "length must be at most 32"},
		{"webhook-custom", "config.body", `""`, empty},
		{"webhook-custom", "config.body", long(64<<10 + 1), "length must be at most 65536"},
		{"webhook-custom", "config.payload", `{"a":[{"b":null}]}`, ""},
		{"lambda", "config.functions", `[]`, empty},
		{"lambda", "config.functions", many(20, `"return 1"`), ""},
		{"lambda", "config.functions", many(21, `"return 1"`), "length must be at most 20"},
		{"lambda", "config.functions", `["", "x"]`, ".1: " + empty},
		{"lambda", "config.functions", many(1, long(32<<10)), ""},
		{"lambda", "config.functions", many(2, long(32<<10+1)), ".1: length must be at most 32768; config.functions.2: length must be at most 32768"},
		{"lambda", "config.functions", `["x",null,{},"y"]`, ".2: expected a string; config.functions.3: expected a string"},
		{"lambda", "config.functions", `"return 1"`, "expected an array"},
	}
	for _, tt := range tests {
		want := ""
		switch {
		case strings.HasPrefix(tt.said, "."):
			want = tt.path + tt.said
		case tt.said != "":
			want = tt.path + ": " + tt.said
		}
		check(t, set(t, bases[tt.handler], tt.path, tt.value), want)
	}
}

func TestNewHook_blanksOfAFilter(t *testing.T) {
	doc := `{"source":"a","handler":"log","filter":` + strings.Repeat(" ", 5000) + `{ "a" : [ "b" ] }}`
	if h := newHook(t, doc); string(h.Filter) != `{"a":["b"]}` {
		t.Errorf("Filter = %s; want it without blanks", h.Filter)
	}
}

// TestNewHook_allAtOnce: every fault of a document is told, and nothing else.
func TestNewHook_allAtOnce(t *testing.T) {
	tests := []struct{ name, doc, fields string }{
		{
			"webhook-custom",
			`{"source":1,"event":"","handler":"webhook-custom","on_change":"true","snooze":1.5,"filter":{"a":"b","c":[{"prefix":1}]},"name":[],"enabled":0,
			  "tags":["ok",5,"a,b"],"workspace":{},"retry":{"max_attempts":51,"max_age":0,"x":1},
			  "config":{"url":["x"],"method":"post","headers":{"Host":"x","X-Ok":5,"X-Line":"a\nb"},"headers_format":1,
			    "payload":"text","payload_format":null,"body":{},"secret":"","ssl_verify":"no","timeout":31,"signature_algorithm":"md5","functions":[]}}`,
			`{"source":"expected a string","event":"length must be at least 1","on_change":"expected a boolean","snooze":"expected an integer",
			  "filter":{"a":"expected an array of alternatives, such as [\"b\"], or an object","c":[{"prefix":"expected a string"}]},
			  "name":"expected a string","enabled":"expected a boolean",
			  "tags":[null,"expected a string","invalid tag 'a,b': expected printable ascii (except ` + "`,` and `/`" + `) or valid utf-8 sequences"],"workspace":"expected a string",
			  "retry":{"max_attempts":"value should be between 1 and 50","max_age":"value should be between 1 and 432000","x":"unknown field"},
			  "config":{"url":"expected a string","method":"invalid value: post","headers":{"X-Ok":"expected a string"},
			    "headers_format":"expected a boolean","payload":"expected a map","body":"expected a string","secret":"length must be at least 1",
			    "ssl_verify":"expected a boolean","timeout":"value should be between 1 and 30","signature_algorithm":"expected one of: sha256, sha1","functions":"unknown field"}}`,
		},
		{
			"lambda",
			`{"handler":"lambda","snooze":-1,"more":1,"config":{"functions":["ok",5,""],"url":"http://x.test/","secret":null}}`,
			`{"source":"required field missing","snooze":"value should be between 0 and 31536000","more":"unknown field",
			  "config":{"functions":[null,"expected a string","length must be at least 1"],"url":"unknown field","secret":"unknown field"}}`,
		},
		{"an empty object", `{}`, `{"handler":"required field missing","source":"required field missing"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := schema.NewHook([]byte(tt.doc), "", nil)
			f := faultsOf(t, err)
			if diff := cmp.Diff(decode(t, []byte(tt.fields)), decode(t, encode(t, f))); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			sameMessage(t, f)
		})
	}
}

// check reads a document and compares what is said of it: "" for nothing, else
// the faults as in the message.
func check(t *testing.T, doc, want string) {
	t.Helper()
	_, err := schema.NewHook([]byte(doc), "", nil)
	got := ""
	if err != nil {
		f := faultsOf(t, err)
		sameMessage(t, f)
		_, got, _ = strings.Cut(f.Error(), "(")
		got = strings.TrimSuffix(got, ")")
	}
	if got != want {
		t.Errorf("%.200s\n\tis said to be %q\n\twant           %q", doc, got, want)
	}
}

// set returns the document with the value at the path, whose last part may
// have no dots.
func set(t *testing.T, doc, path, value string) string {
	t.Helper()
	root := map[string]any{}
	if err := json.Unmarshal([]byte(doc), &root); err != nil {
		t.Fatal(err)
	}
	at, names := root, strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		below, ok := at[name].(map[string]any)
		if !ok {
			below = map[string]any{}
			at[name] = below
		}
		at = below
	}
	at[names[len(names)-1]] = json.RawMessage(value)
	return string(encode(t, root))
}

func decode(t testing.TB, doc []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatalf("%v: %s", err, doc)
	}
	return v
}
