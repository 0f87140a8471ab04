package goldentest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

var (
	variable    = regexp.MustCompile(`\$\{(\w+)\}`)
	placeholder = regexp.MustCompile(`<(any|uuid|int|text|time|token|etag|offset)(?: (\w+))?>`)
	signature   = regexp.MustCompile(`<(hmac-sha256|hmac-sha1|v1) ([^>]+)>`)
	integer     = regexp.MustCompile(`^-?\d+$`)
	// kinds are what placeholders stand for in a text.
	kinds = map[string]string{
		"uuid":   `[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}`,
		"text":   `(?s:.+)`,
		"time":   `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z`,
		"token":  `eh_[A-Za-z0-9_-]{43}`,
		"etag":   `"\d+"`,
		"offset": `[A-Za-z0-9_-]+`,
	}
)

// more allows what is not wanted.
const more = "..."

// compare holds headers and a body to what is wanted, and keeps what has a
// name.
func (p *player) compare(where string, header http.Header, body []byte, wantHeader [][2]string, wantBody string) error {
	var diff []string
	for _, h := range wantHeader {
		wanted, err := p.fill(h[1])
		if err != nil {
			return err
		}
		switch got := header.Values(h[0]); {
		case wanted == "" && len(got) > 0:
			diff = append(diff, fmt.Sprintf("%s = %q; want none", h[0], got))
		case wanted != "" && len(got) == 0:
			diff = append(diff, fmt.Sprintf("%s is missing; want %s", h[0], wanted))
		case wanted != "":
			diff = append(diff, p.differ(h[0], got[0], wanted)...)
		}
	}
	wantBody, err := p.fill(strings.TrimSpace(wantBody))
	if err != nil {
		return err
	}
	if wantBody != "" {
		var wanted any = wantBody
		var got any = strings.TrimSpace(string(body))
		if strings.ContainsAny(wantBody[:1], "{[") {
			if wanted, err = decode([]byte(wantBody)); err != nil {
				return fmt.Errorf("%s: what is wanted is no JSON: %w", where, err)
			}
			if got, err = decode(body); err != nil {
				return difference{fmt.Sprintf("%s is no JSON: %v: %s", where, err, body)}
			}
		}
		diff = append(diff, p.differ("", got, wanted)...)
	}
	if len(diff) == 0 {
		return nil
	}
	return difference{fmt.Sprintf("%s:\n\t%s\n\tbody: %s", where, strings.Join(diff, "\n\t"), body)}
}

// decode reads one JSON value, numbers as they are written.
func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows")
	}
	return v, nil
}

// differ lists where got is not what is wanted, and keeps what has a name.
func (p *player) differ(path string, got, wanted any) []string {
	wrong := func() []string {
		name := path
		if name == "" {
			name = "body"
		}
		return []string{fmt.Sprintf("%s = %s; want %s", name, encode(got), encode(wanted))}
	}
	switch w := wanted.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return wrong()
		}
		var diff []string
		for _, name := range slices.Sorted(maps.Keys(w)) {
			value, there := g[name]
			switch {
			case name == more:
			case !there:
				diff = append(diff, path+"."+name+" is missing")
			default:
				diff = append(diff, p.differ(path+"."+name, value, w[name])...)
			}
		}
		if _, open := w[more]; open {
			return diff
		}
		for _, name := range slices.Sorted(maps.Keys(g)) {
			if _, expected := w[name]; !expected {
				diff = append(diff, path+"."+name+" is not wanted")
			}
		}
		return diff
	case []any:
		g, ok := got.([]any)
		open := len(w) > 0 && w[len(w)-1] == more
		if open {
			w = w[:len(w)-1]
		}
		if !ok || len(g) < len(w) || len(g) > len(w) && !open {
			return wrong()
		}
		var diff []string
		for i := range w {
			diff = append(diff, p.differ(fmt.Sprintf("%s[%d]", path, i), g[i], w[i])...)
		}
		return diff
	case json.Number:
		if g, ok := got.(json.Number); !ok || !same(g, w) {
			return wrong()
		}
		return nil
	case string:
		if !p.fits(got, w) {
			return wrong()
		}
		return nil
	}
	if got != wanted { // true, false, null
		return wrong()
	}
	return nil
}

// fits reports whether a value is what a text wants, and keeps what has a name.
func (p *player) fits(got any, wanted string) bool {
	parts := placeholder.FindAllStringSubmatchIndex(wanted, -1)
	if len(parts) == 0 {
		return got == wanted
	}
	part := func(m []int, group int) string {
		if m[2*group] < 0 {
			return ""
		}
		return wanted[m[2*group]:m[2*group+1]]
	}
	if whole := parts[0]; whole[0] == 0 && whole[1] == len(wanted) {
		number, isNumber := got.(json.Number)
		switch k := part(whole, 1); {
		case k == "any", k == "int" && isNumber && integer.MatchString(number.String()):
			p.keep(part(whole, 2), got)
			return true
		case k == "int":
			return false
		}
	}
	text, isText := got.(string)
	if !isText {
		return false
	}
	pattern, end := "^", 0
	for _, m := range parts {
		k := kinds[part(m, 1)]
		if k == "" { // <any> and <int> are no part of a text
			return false
		}
		pattern += regexp.QuoteMeta(wanted[end:m[0]]) + "(" + k + ")"
		end = m[1]
	}
	found := regexp.MustCompile(pattern + regexp.QuoteMeta(wanted[end:]) + "$").FindStringSubmatch(text)
	if found == nil {
		return false
	}
	for i, m := range parts {
		p.keep(part(m, 2), found[i+1])
	}
	return true
}

// keep gives a variable a value.
func (p *player) keep(name string, value any) {
	if name != "" {
		p.vars[name] = fmt.Sprint(value)
	}
}

// same reports whether two numbers have the same value.
func same(a, b json.Number) bool {
	if a == b {
		return true
	}
	x, ok := new(big.Rat).SetString(a.String())
	y, okToo := new(big.Rat).SetString(b.String())
	return ok && okToo && x.Cmp(y) == 0
}

func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // it was decoded
	return strings.TrimSpace(b.String())
}
