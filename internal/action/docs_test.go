package action_test

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"eventhooks/internal/action"
	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// TestDocs renders every example of docs/templates.md.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/templates.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	data := regexp.MustCompile("(?s)with these data:\n\n```json\n(.*?)```").FindStringSubmatch(doc)
	if data == nil {
		t.Fatal("the page's event is not found")
	}
	ev := hook.Event{Source: "crud", Event: "services:update", Data: []byte(data[1])}
	r := newLuaRunner(t, 1)
	contentType := "text/plain"
	check := func(body string) hook.FieldErrors {
		h := withBody("http://127.0.0.1", body)
		h.Config.Headers["Content-Type"] = contentType
		return action.Check(h)
	}
	render := func(body, want string) {
		t.Helper()
		h := withBody("http://127.0.0.1", body)
		h.Config.Headers["Content-Type"] = contentType
		if faults := action.Check(h); len(faults) > 0 {
			t.Errorf("%s: %v", body, faults)
		} else if req, err := r.Request(h, ev, now); err != nil || string(req.Body) != want {
			t.Errorf("%s gives %s, %v; the page says %s", body, req.Body, err, want)
		}
	}
	row := regexp.MustCompile("^\\| `(.+?)` \\| `(.*?)` \\|")
	refused := regexp.MustCompile("^\\| `(.+?)` \\| [a-zA-Z]")
	pair := regexp.MustCompile("(?s)```text\n(.*?)```\n\ngives\n\n```(?:text|json)\n(.*?)```")
	seen := map[string]int{}
	for _, part := range strings.Split(doc, "\n## ")[1:] {
		section, text, _ := strings.Cut(part, "\n")
		switch section {
		case "Names", "Tags", "Expressions", "Statements":
			contentType = "text/plain"
		case "JSON":
			contentType = "application/json"
		default:
			continue
		}
		for line := range strings.Lines(text) {
			if m := row.FindStringSubmatch(line); m != nil {
				seen[section]++
				render(m[1], m[2])
			} else if m := refused.FindStringSubmatch(line); m != nil {
				seen["refused"]++
				if len(check(m[1])) == 0 {
					t.Errorf("%s is not refused", m[1])
				}
			}
		}
		for _, m := range pair.FindAllStringSubmatch(text, -1) {
			seen["pairs"]++
			render(strings.TrimSuffix(m[1], "\n"), strings.TrimSuffix(m[2], "\n"))
		}
	}
	for section, least := range map[string]int{"Names": 15, "Tags": 10, "Expressions": 18, "Statements": 7, "JSON": 15, "refused": 11, "pairs": 3} {
		if seen[section] < least {
			t.Errorf("%d examples were found of %s; want at least %d", seen[section], section, least)
		}
	}

	payload := func(object string, ev hook.Event) string {
		t.Helper()
		h := custom("http://127.0.0.1", "POST")
		h.Config.Headers = map[string]string{"Content-Type": "application/json"}
		h.Config.Payload = []byte(object)
		if faults := action.Check(h); len(faults) > 0 {
			t.Fatalf("%s: %v", object, faults)
		}
		req, err := r.Request(h, ev, now)
		if err != nil {
			t.Fatalf("%s: %v", object, err)
		}
		return string(req.Body)
	}
	var rendered []string
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(doc[strings.Index(doc, "## Payload"):], -1)
	for _, m := range blocks {
		rendered = append(rendered, payload(m[1], ev))
	}
	want := []string{
		`{"text":"say \"hi\""}`,
		`{"text":"petstore","blocks":[{"type":"section","text":{"type":"mrkdwn","text":"*petstore* say \"hi\""}}]}`,
		`{"blocks":"[{\"type\": \"section\", \"text\": {\"type\": \"mrkdwn\", \"text\": \"*petstore* say \\\"hi\\\"\"}}]"}`,
		`{"blocks":"[{\"type\": \"section\", \"text\": \"10.0.0.1 say \\\"hi\\\"\"},{\"type\": \"section\", \"text\": \"10.0.0.2 say \\\"hi\\\"\"}]"}`,
	}
	if strings.Join(rendered, "\n") != strings.Join(want, "\n") {
		t.Errorf("the payloads give\n%s\nwant\n%s", strings.Join(rendered, "\n"), strings.Join(want, "\n"))
	}
	// What the text says of strings in brackets, and of names and expressions.
	ev.Data = []byte(`{"health":"unhealthy","hostname":"web1","ok":true,"entity":{}}`)
	for src, want := range map[string]string{
		"[{{health}}]":                                       `{"a":"[\"unhealthy\"]"}`,
		"[{{health}}] {{hostname}}":                          `{"a":"[unhealthy] web1"}`,
		"[{% if ok then %}UP{% else %}DOWN{% end %}]":        `{"a":"[UP]"}`,
		"{{entity.nobody.name}}":                             `{"a":""}`,
		"{{ entity.nobody and entity.nobody.name:upper() }}": `{"a":""}`,
		"{{math.pi}}":                                        `{"a":""}`,
		"{{ (math.pi) }}":                                    `{"a":"3.141592653589793"}`,
	} {
		if !strings.Contains(doc, "`"+src+"`") {
			t.Errorf("the page does not mention %s", src)
		}
		if got := payload(`{"a":"`+src+`"}`, ev); got != want {
			t.Errorf("%s gives %s; want %s", src, got, want)
		}
	}
	if _, err := r.Request(withBody("http://127.0.0.1", "{{ entity.nobody.name:upper() }}"), ev, now); err == nil {
		t.Error("an expression of what is not there: no error")
	}
	first := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(doc)
	if err := strictjson.Check(bytes.TrimSpace([]byte(first[1])), strictjson.Limits{}); err != nil {
		t.Errorf("the page's hook: %v", err)
	}
}
