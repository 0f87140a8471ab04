package goldentest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

type kind int

const (
	kindRequest  kind = iota // -- POST /path --, and the want that follows
	kindReceived             // -- received POST /path --
	kindAnswers              // -- receiver answers 503 --
)

// section is one step of a conversation.
type section struct {
	kind   kind
	line   int
	method string
	path   string
	status int // of kindAnswers
	header [][2]string
	body   string
	want   want // of kindRequest
}

// want is what a request should be answered.
type want struct {
	status int
	soon   bool
	header [][2]string
	body   string
}

var (
	headline  = regexp.MustCompile(`^-- (.+) --$`)
	wants     = regexp.MustCompile(`^want (\d{3})( soon)?$`)
	arrives   = regexp.MustCompile(`^received ([A-Z]+) ((?:/|\$\{)\S*)$`)
	answering = regexp.MustCompile(`^receiver answers (\d{3})$`)
	asks      = regexp.MustCompile(`^([A-Z]+) ((?:/|\$\{)\S*)$`) // a variable may hold the path
	fieldName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
)

// parse reads a conversation. Its errors begin with the line.
func parse(text string) ([]section, error) {
	var all []section
	var header *[][2]string // where lines go: to a section's header, then to its body
	var body *string
	inBody := false
	asked := func() bool { return len(all) > 0 && all[len(all)-1].kind == kindRequest }
	answered := func() bool { return !asked() || all[len(all)-1].want.status != 0 }
	for i, line := range strings.Split(text, "\n") {
		n := i + 1
		wrong := func(what string) ([]section, error) { return nil, fmt.Errorf("%d: %s: %s", n, what, line) }
		switch {
		case strings.HasPrefix(line, "# "):
			continue
		case strings.HasPrefix(line, "-- "):
			m := headline.FindStringSubmatch(line)
			if m == nil {
				return wrong("a section is -- what --")
			}
			if w := wants.FindStringSubmatch(m[1]); w != nil {
				if !asked() || answered() {
					return wrong("no request stands before")
				}
				e := &all[len(all)-1]
				e.want.status, _ = strconv.Atoi(w[1])
				e.want.soon = w[2] != ""
				header, body, inBody = &e.want.header, &e.want.body, false
				continue
			}
			if !answered() {
				return wrong("the request before wants no answer")
			}
			s := section{line: n}
			if a := arrives.FindStringSubmatch(m[1]); a != nil {
				s.kind, s.method, s.path = kindReceived, a[1], a[2]
			} else if a := answering.FindStringSubmatch(m[1]); a != nil {
				s.kind = kindAnswers
				s.status, _ = strconv.Atoi(a[1])
			} else if a := asks.FindStringSubmatch(m[1]); a != nil {
				s.method, s.path = a[1], a[2]
			} else {
				return wrong("no section is called that")
			}
			all = append(all, s)
			e := &all[len(all)-1]
			header, body, inBody = &e.header, &e.body, false
			continue
		case len(all) == 0 && line == "":
			continue
		case len(all) == 0:
			return wrong("before the first section")
		case inBody:
			*body += line + "\n"
			continue
		case line == "":
			inBody = true
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !fieldName.MatchString(name) || value != "" && value[0] != ' ' {
			return wrong("neither a header nor an empty line")
		}
		*header = append(*header, [2]string{name, strings.TrimSpace(value)})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("1: nothing is said")
	}
	if !answered() {
		return nil, fmt.Errorf("%d: the last request wants no answer", all[len(all)-1].line)
	}
	return all, nil
}
