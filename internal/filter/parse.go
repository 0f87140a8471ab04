package filter

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"eventhooks/internal/strictjson"
)

const (
	opAnythingBut = "anything-but"
	opCIDR        = "cidr"
	opExists      = "exists"
	opFold        = "equals-ignore-case"
	opNumeric     = "numeric"
	opOr          = "$or"
	opPrefix      = "prefix"
	opSuffix      = "suffix"
	opWildcard    = "wildcard"
)

// Parse reads a pattern, a JSON object. The error is Errors, with every fault
// there is; a document that is no JSON, or is too long, has that one only.
func Parse(doc []byte) (*Pattern, error) {
	v, err := strictjson.Decode(doc, strictjson.Limits{})
	if err != nil {
		return nil, Errors{{Text: err.Error()}}
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, Errors{{Text: "expected an object, got " + strictjson.KindName(doc)}}
	}
	source := string(strictjson.Compact(nil, doc))
	if len(source) > MaxBytes {
		return nil, Errors{{Text: "expected at most " + strconv.Itoa(MaxBytes) + " bytes, got " + strconv.Itoa(len(source))}}
	}
	var p parser
	root := p.object(nil, m, 1)
	if len(p.faults) > 0 {
		return nil, p.faults
	}
	return &Pattern{root: root, source: source}, nil
}

// parser collects the faults of a pattern.
type parser struct {
	faults Errors
	stars  int // in the wildcards so far
}

func (p *parser) fault(path []string, text string) {
	p.faults = append(p.faults, Fault{Path: path, Text: text})
}

// down returns the path of a member.
func down(path []string, name string) []string { return append(slices.Clip(path), name) }

// item returns the path of an array's element.
func item(path []string, i int) []string { return down(path, strconv.Itoa(i+1)) }

func (p *parser) object(path []string, m map[string]any, depth int) object {
	var o object
	if depth > MaxDepth {
		p.fault(path, "expected at most "+strconv.Itoa(MaxDepth)+" objects inside each other")
		return o
	}
	if len(m) == 0 {
		text := "expected at least one field"
		if depth == 1 {
			text += "; no filter is null"
		}
		p.fault(path, text)
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		at, v := down(path, name), m[name]
		switch {
		case name == opOr:
			o.or = p.or(at, v, depth)
			continue
		case strings.HasPrefix(name, "$"):
			p.fault(at, "names that begin with $ are kept for operators: expected $or or the name of a field")
			continue
		case misplaced(name, v):
			p.fault(at, `an operator stands in an array: expected [{"`+name+`": `+short(v)+`}]`)
			continue
		}
		switch v := v.(type) {
		case map[string]any:
			sub := p.object(at, v, depth+1)
			o.fields = append(o.fields, field{name: name, object: &sub})
		case []any:
			o.fields = append(o.fields, field{name: name, leaf: p.leaf(at, v)})
		default:
			p.fault(at, "expected an array of alternatives, such as ["+short(v)+"], or an object")
		}
	}
	return o
}

// misplaced reports whether a member is an operator outside an array. Most names
// of operators may be names of fields too, so it looks at the value as well: a
// filter that is never met because it was misread loses events.
func misplaced(name string, v any) bool {
	switch name {
	case opAnythingBut, opFold:
		return true
	case opExists, opPrefix, opSuffix, opWildcard, opCIDR:
		switch v.(type) {
		case map[string]any, []any:
			return false
		}
		return true
	case opNumeric:
		list, _ := v.([]any)
		if len(list) == 0 {
			return false
		}
		sign, _ := list[0].(string)
		return comparison(sign) != 0
	}
	return false
}

func (p *parser) or(path []string, v any, depth int) []object {
	list, ok := v.([]any)
	if !ok || len(list) < 2 {
		// EventBridge takes one alternative for a field that is called $or.
		p.fault(path, "expected an array of at least two patterns")
		return nil
	}
	var or []object
	for i, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			p.fault(item(path, i), "expected a pattern, which is an object")
			continue
		}
		or = append(or, p.object(item(path, i), m, depth+1))
	}
	return or
}

func (p *parser) leaf(path []string, alternatives []any) *leaf {
	l := &leaf{}
	if len(alternatives) == 0 {
		p.fault(path, "expected at least one alternative")
	}
	for i, v := range alternatives {
		at := item(path, i)
		switch v := v.(type) {
		case []any:
			p.fault(at, `expected a string, a number, true, false, null or an operator such as {"prefix": "a"}`)
		case map[string]any:
			p.operator(at, v, l)
		default:
			p.exact(at, v, &l.exact)
		}
	}
	l.sort()
	return l
}

// exact adds a value to a set.
func (p *parser) exact(path []string, v any, x *exact) {
	if n, ok := v.(json.Number); ok && !p.bounded(path, n) {
		return
	}
	x.add(valueOf(v))
}

// bounded reports whether the number is one that every number of an event can
// be compared with.
func (p *parser) bounded(path []string, n json.Number) bool {
	if i := strings.IndexAny(string(n), "eE"); i >= 0 {
		if e := exponent(string(n[i+1:])); e > MaxExponent || e < -MaxExponent {
			p.fault(path, "expected an exponent from "+strconv.Itoa(-MaxExponent)+" to "+strconv.Itoa(MaxExponent))
			return false
		}
	}
	return true
}

// operator adds an alternative that is an object to a leaf.
func (p *parser) operator(path []string, m map[string]any, l *leaf) {
	name, v, ok := p.single(path, m)
	if !ok {
		return
	}
	path = down(path, name)
	switch name {
	case opExists:
		yes, ok := v.(bool)
		if !ok {
			p.fault(path, "expected true or false")
		}
		l.exists, l.absent = l.exists || yes, l.absent || !yes
	case opAnythingBut:
		l.tests = append(l.tests, p.but(path, v))
	case opNumeric:
		if s := p.numeric(path, v); s != nil && s.low != nil && s.low == s.high {
			l.numbers = append(l.numbers, *s.low) // "=": as the number itself
		} else {
			l.tests = append(l.tests, s)
		}
	case opCIDR:
		l.blocks = append(l.blocks, p.block(path, v))
	case opPrefix, opSuffix, opFold, opWildcard:
		if m, ok := v.(map[string]any); ok && (name == opPrefix || name == opSuffix) {
			l.tests = append(l.tests, p.folded(path, name, m))
			return
		}
		l.tests = append(l.tests, p.text(path, name, v))
	default:
		p.fault(path, "unknown operator; expected one of: "+strings.Join([]string{
			opAnythingBut, opCIDR, opFold, opExists, opNumeric, opPrefix, opSuffix, opWildcard,
		}, ", "))
	}
}

// single returns the only member of an operator.
func (p *parser) single(path []string, m map[string]any) (name string, v any, ok bool) {
	if len(m) != 1 {
		text := "expected one operator, got none"
		if len(m) > 1 {
			text = "expected one operator, got " + strings.Join(slices.Sorted(maps.Keys(m)), ", ") + "; each is an alternative of its own"
		}
		p.fault(path, text)
		return "", nil, false
	}
	for name, v = range m {
	}
	return name, v, true
}

// folded is a prefix or suffix whose case does not matter.
func (p *parser) folded(path []string, name string, m map[string]any) test {
	v, ok := m[opFold]
	if !ok || len(m) != 1 {
		p.fault(path, `expected a string or {"`+opFold+`": a string}`)
		return nil
	}
	s, ok := v.(string)
	if !ok {
		p.fault(down(path, opFold), "expected a string")
		return nil
	}
	if name == opPrefix {
		return foldPrefix(s)
	}
	return foldSuffix(s)
}

// text is an operator that takes a string.
func (p *parser) text(path []string, name string, v any) test {
	s, ok := v.(string)
	if !ok {
		p.fault(path, "expected a string")
		return nil
	}
	switch name {
	case opPrefix:
		return prefix(s)
	case opSuffix:
		return suffix(s)
	case opFold:
		return foldWhole(s)
	}
	return p.wildcard(path, s)
}

// block is a range of addresses.
func (p *parser) block(path []string, v any) netip.Prefix {
	s, ok := v.(string)
	if !ok {
		p.fault(path, "expected a string")
		return netip.Prefix{}
	}
	b, ok := parseBlock(s)
	if !ok {
		p.fault(path, `expected a block of addresses such as "10.0.0.0/24", "10.0.0.7/32" or "2001:db8::/32"`)
	}
	return b
}

func (p *parser) wildcard(path []string, s string) wildcard {
	var w wildcard
	var part strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\\':
			if i++; i == len(s) || s[i] != '*' && s[i] != '\\' {
				p.fault(path, `expected a star or a backslash after each backslash: \* is a star, \\ is a backslash`)
				return nil
			}
			part.WriteByte(s[i])
		case '*':
			if len(w) > 0 && part.Len() == 0 {
				p.fault(path, "expected no two stars in a row: one stands for any text")
				return nil
			}
			if p.stars++; p.stars > MaxStars {
				p.fault(path, "expected at most "+strconv.Itoa(MaxStars)+" stars in all wildcards of the filter")
				return nil
			}
			w = append(w, part.String())
			part.Reset()
		default:
			part.WriteByte(c)
		}
	}
	return append(w, part.String())
}

// numeric is a range of numbers; its bounds are one and the same for "=".
func (p *parser) numeric(path []string, v any) *span {
	const usage = `expected a comparison and a number, such as [">", 5], or a range such as [">", 0, "<=", 5]`
	list, ok := v.([]any)
	if !ok || len(list) != 2 && len(list) != 4 {
		p.fault(path, usage)
		return nil
	}
	var s span
	sound := true
	for i := 0; i < len(list); i += 2 {
		sign, _ := list[i].(string)
		c := comparison(sign)
		n, isNumber := list[i+1].(json.Number)
		switch {
		case c == 0:
			p.fault(item(path, i), "expected one of: <, <=, =, >=, >")
		case !isNumber:
			p.fault(item(path, i+1), "expected a number")
		case !p.bounded(item(path, i+1), n):
		case len(list) == 4 && (i == 0) != (c == '>') || len(list) == 4 && c == '=':
			p.fault(path, `expected the lower bound of a range first and the upper one second, such as [">", 0, "<=", 5]`)
			return nil
		default:
			d := parseDecimal(string(n))
			switch c {
			case '>':
				s.low, s.lowOpen = &d, sign == ">"
			case '<':
				s.high, s.highOpen = &d, sign == "<"
			case '=':
				s.low, s.high = &d, &d
			}
			continue
		}
		sound = false
	}
	if sound && s.empty() {
		p.fault(path, "expected a range that some number is in")
	}
	return &s
}

// comparison returns the direction of a comparison: '<', '=', '>', or 0 for what
// is none.
func comparison(sign string) byte {
	switch sign {
	case "<", "<=", "=", ">", ">=":
		return sign[0]
	}
	return 0
}

func (p *parser) but(path []string, v any) test {
	b := &but{}
	switch v := v.(type) {
	case map[string]any:
		p.butOperator(path, v, b)
	case []any:
		if len(v) == 0 {
			p.fault(path, "expected at least one value")
		}
		for i, e := range v {
			switch e.(type) {
			case map[string]any, []any:
				p.fault(item(path, i), `expected a string, a number, true, false or null; several prefixes are {"prefix": ["a", "b"]}`)
			default:
				p.exact(item(path, i), e, &b.exact)
			}
		}
	default:
		p.exact(path, v, &b.exact)
	}
	b.sort()
	return b
}

// butOperator is anything-but of an operator, which takes a string or several.
func (p *parser) butOperator(path []string, m map[string]any, b *but) {
	name, v, ok := p.single(path, m)
	if !ok {
		return
	}
	path = down(path, name)
	if !slices.Contains([]string{opPrefix, opSuffix, opFold, opWildcard}, name) {
		p.fault(path, "expected one of: "+strings.Join([]string{opFold, opPrefix, opSuffix, opWildcard}, ", "))
		return
	}
	list, several := v.([]any)
	if !several {
		list = []any{v}
	} else if len(list) == 0 {
		p.fault(path, "expected at least one string")
	}
	for i, e := range list {
		at := path
		if several {
			at = item(path, i)
		}
		if _, isText := e.(string); !isText {
			text := "expected a string"
			if !several {
				text += " or an array of strings"
			}
			p.fault(at, text)
			continue
		}
		if e == "" && (name == opPrefix || name == opSuffix) {
			p.fault(at, "expected at least one character: every string has the empty one as its "+name)
			continue
		}
		b.tests = append(b.tests, p.text(at, name, e))
	}
}
