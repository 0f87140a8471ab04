package admin_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestGolden plays the conversations of testdata/*.txt. Each file begins with
// an empty store and holds requests and what they are answered:
//
//	# a comment
//	-- POST /event-hooks --
//	Token: read                      headers; the token is admin's unless said
//
//	{"source": "crud"}               the body; JSON unless Content-Type says
//	-- want 201 --
//	ETag: <etag v1>                  headers that are looked at
//
//	{"id": "<uuid h1>", ...}         the answer; nothing for any
//
// In what is wanted, a text in angle brackets stands for any value of a kind:
// <any>, <uuid>, <int>, <text>, <token>, <etag>, <offset>; a name after it
// keeps the value, and ${name} is replaced by it wherever it follows. A member
// "..." allows members that are not wanted. A body in which every line begins
// with "|" is repeated as often as its first line says: "|300 x" is 300 x.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			exchanges, err := parseGolden(string(source))
			if err != nil {
				t.Fatal(err)
			}
			s, names := newServer(t), map[string]string{}
			for _, e := range exchanges {
				e.play(t, s, file, names)
			}
		})
	}
}

// exchange is one request and what it should be answered.
type exchange struct {
	line       int
	method     string
	path       string
	header     [][2]string
	body       string
	wantStatus int
	wantHeader [][2]string
	wantBody   string
}

var (
	section     = regexp.MustCompile(`^-- (.+) --$`)
	placeholder = regexp.MustCompile(`^<(any|uuid|int|text|token|etag|offset)(?: (\w+))?>$`)
	variable    = regexp.MustCompile(`\$\{(\w+)\}`)
	kinds       = map[string]*regexp.Regexp{
		"uuid":   regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
		"text":   regexp.MustCompile(`(?s)^.+$`),
		"token":  regexp.MustCompile(`^eh_[A-Za-z0-9_-]{43}$`),
		"etag":   regexp.MustCompile(`^"\d+"$`),
		"offset": regexp.MustCompile(`^[A-Za-z0-9_-]+$`),
	}
)

func parseGolden(source string) ([]exchange, error) {
	var all []exchange
	var wanting, inBody bool
	for n, line := range strings.Split(source, "\n") {
		if m := section.FindStringSubmatch(line); m != nil {
			inBody = false
			if status, ok := strings.CutPrefix(m[1], "want "); ok {
				code, err := strconv.Atoi(status)
				if err != nil || len(all) == 0 {
					return nil, fmt.Errorf("line %d: %s", n+1, line)
				}
				all[len(all)-1].wantStatus, wanting = code, true
				continue
			}
			method, path, ok := strings.Cut(m[1], " ")
			if !ok {
				return nil, fmt.Errorf("line %d: %s", n+1, line)
			}
			all, wanting = append(all, exchange{line: n + 1, method: method, path: path}), false
			continue
		}
		if len(all) == 0 || strings.HasPrefix(line, "# ") {
			continue
		}
		e := &all[len(all)-1]
		switch name, value, isHeader := strings.Cut(line, ": "); {
		case inBody && wanting:
			e.wantBody += line + "\n"
		case inBody:
			e.body += line + "\n"
		case line == "":
			inBody = true
		case !isHeader:
			return nil, fmt.Errorf("line %d: neither a header nor an empty line: %s", n+1, line)
		case wanting:
			e.wantHeader = append(e.wantHeader, [2]string{name, value})
		default:
			e.header = append(e.header, [2]string{name, value})
		}
	}
	return all, nil
}

func (e exchange) play(t *testing.T, s *server, file string, names map[string]string) {
	t.Helper()
	fill := func(text string) string {
		return variable.ReplaceAllStringFunc(text, func(v string) string { return names[v[2:len(v)-1]] })
	}
	var header []string
	for _, h := range e.header {
		if h[0] == "Token" {
			h = [2]string{"Authorization", "Bearer " + h[1] + "-token"}
			if h[1] == "Bearer none-token" {
				h[1] = ""
			}
		}
		header = append(header, h[0], fill(h[1]))
	}
	body := strings.TrimSpace(fill(e.body))
	if times, text, ok := strings.Cut(strings.TrimPrefix(body, "|"), " "); ok && strings.HasPrefix(body, "|") {
		n, err := strconv.Atoi(times)
		if err != nil {
			t.Fatalf("%s:%d: %v", file, e.line, err)
		}
		body = strings.Repeat(text, n)
	}
	path := fill(e.path)
	got := s.do(e.method, path, body, header...)
	where := fmt.Sprintf("%s:%d: %s %s", file, e.line, e.method, path)
	if got.status != e.wantStatus {
		t.Fatalf("%s = %d; want %d\n%s", where, got.status, e.wantStatus, got.body)
	}
	for _, h := range e.wantHeader {
		if diff := differ(h[0], got.header.Get(h[0]), fill(h[1]), names); len(diff) > 0 {
			t.Errorf("%s: %s", where, strings.Join(diff, "\n"))
		}
	}
	if strings.TrimSpace(e.wantBody) == "" {
		return
	}
	var gotJSON, wantJSON any
	if err := json.Unmarshal([]byte(fill(e.wantBody)), &wantJSON); err != nil {
		t.Fatalf("%s: what is wanted is no JSON: %v", where, err)
	}
	if err := json.Unmarshal(got.body, &gotJSON); err != nil {
		t.Fatalf("%s: answer is no JSON: %v: %s", where, err, got.body)
	}
	if diff := differ("", gotJSON, wantJSON, names); len(diff) > 0 {
		t.Errorf("%s:\n\t%s\n\tanswer: %s", where, strings.Join(diff, "\n\t"), got.body)
	}
}

// differ lists where got is not what is wanted, and keeps what has a name.
func differ(path string, got, want any, names map[string]string) []string {
	wrong := func() []string {
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		return []string{fmt.Sprintf("%s = %s; want %s", path, g, w)}
	}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return wrong()
		}
		var diff []string
		for _, name := range slices.Sorted(maps.Keys(w)) {
			if name == "..." {
				continue
			}
			if _, there := g[name]; !there {
				diff = append(diff, path+"."+name+" is missing")
				continue
			}
			diff = append(diff, differ(path+"."+name, g[name], w[name], names)...)
		}
		_, open := w["..."]
		for _, name := range slices.Sorted(maps.Keys(g)) {
			if _, wanted := w[name]; !wanted && !open {
				diff = append(diff, path+"."+name+" is not wanted")
			}
		}
		return diff
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return wrong()
		}
		var diff []string
		for i := range w {
			diff = append(diff, differ(fmt.Sprintf("%s[%d]", path, i), g[i], w[i], names)...)
		}
		return diff
	case string:
		m := placeholder.FindStringSubmatch(w)
		if m == nil {
			if got != want {
				return wrong()
			}
			return nil
		}
		text, isText := got.(string)
		number, isNumber := got.(float64)
		fits := m[1] == "any" || m[1] == "int" && isNumber && number == float64(int64(number)) ||
			kinds[m[1]] != nil && isText && kinds[m[1]].MatchString(text)
		if !fits {
			return wrong()
		}
		if m[2] != "" {
			names[m[2]] = fmt.Sprint(got)
		}
		return nil
	}
	if got != want {
		return wrong()
	}
	return nil
}
