package render

import (
	"os"
	"regexp"
	"strings"
	"testing"

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
	v, err := ValuesOf(hook.Event{Source: "crud", Event: "services:update", Data: []byte(data[1])})
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("^\\| `(.+?)` \\| `(.*?)` \\|")
	refused := regexp.MustCompile("^\\| `(.+?)` \\| [a-zA-Z]")
	seen := map[string]int{}
	section := ""
	for line := range strings.Lines(doc) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.TrimSpace(name)
			continue
		}
		parse := ParseText
		switch section {
		case "JSON":
			parse = ParseJSON
		case "Names", "Tags":
		default:
			continue
		}
		if m := row.FindStringSubmatch(line); m != nil {
			seen[section]++
			tmpl, err := parse(m[1])
			if err != nil {
				t.Errorf("%s: %v", m[1], err)
				continue
			}
			if got, err := tmpl.Append(nil, v); err != nil || string(got) != m[2] {
				t.Errorf("%s gives %s, %v; the page says %s", m[1], got, err, m[2])
			}
		} else if m := refused.FindStringSubmatch(line); m != nil {
			seen["refused"]++
			if _, err := parse(m[1]); err == nil {
				t.Errorf("%s is not refused", m[1])
			}
		}
	}
	for section, least := range map[string]int{"Names": 13, "Tags": 8, "JSON": 13, "refused": 11} {
		if seen[section] < least {
			t.Errorf("%d examples were found of %s; want at least %d", seen[section], section, least)
		}
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(doc[strings.Index(doc, "## Payload"):], -1)
	var rendered []string
	for _, m := range blocks {
		p, err := ParsePayload([]byte(m[1]), true)
		if err != nil {
			t.Fatalf("%s: %v", m[1], err)
		}
		got, err := p.AppendJSON(nil, v)
		if err != nil {
			t.Fatalf("%s: %v", m[1], err)
		}
		rendered = append(rendered, string(got))
	}
	want := []string{
		`{"text":"say \"hi\""}`,
		`{"text":"petstore","blocks":[{"type":"section","text":{"type":"mrkdwn","text":"*petstore* say \"hi\""}}]}`,
		`{"blocks":"[{\"type\": \"section\", \"text\": {\"type\": \"mrkdwn\", \"text\": \"*petstore* say \\\"hi\\\"\"}}]"}`,
	}
	if strings.Join(rendered, "\n") != strings.Join(want, "\n") {
		t.Errorf("the payloads give\n%s\nwant\n%s", strings.Join(rendered, "\n"), strings.Join(want, "\n"))
	}
	// The two readings of text in brackets.
	v = Values{"health": "unhealthy", "hostname": "web1"}
	for src, want := range map[string]string{"[{{health}}]": `["unhealthy"]`, "[{{health}}] {{hostname}}": "[unhealthy] web1"} {
		tmpl, err := parseLeaf(src)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tmpl.Append(nil, v); err != nil || string(got) != want {
			t.Errorf("%s gives %s, %v; want %s", src, got, err, want)
		}
	}
	first := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(doc)
	if err := strictjson.Check([]byte(first[1]), strictjson.Limits{}); err != nil {
		t.Errorf("the page's hook: %v", err)
	}
}
