package filter

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"eventhooks/internal/strictjson"
)

// Explain says why the data do not fit: a sentence for each condition that is
// not met, sorted; nil when they fit. The sentences name the data's values,
// long ones cut short.
func (p *Pattern) Explain(data map[string]any) []string {
	if p.Match(data) {
		return nil
	}
	// It was parsed before.
	v, _ := strictjson.Decode([]byte(p.source), strictjson.Limits{})
	source, _ := v.(map[string]any)
	out := p.root.explain(nil, "", source, data)
	slices.Sort(out)
	return slices.Compact(out)
}

// explain appends what of the object is not met; source is what it was parsed
// from.
func (o *object) explain(dst []string, path string, source, members map[string]any) []string {
	for i := range o.fields {
		f := &o.fields[i]
		v, there := members[f.name]
		if f.fits(v, there) {
			continue
		}
		at := f.name
		if path != "" {
			at = path + "." + f.name
		}
		if f.leaf != nil {
			wanted, _ := source[f.name].([]any)
			dst = append(dst, at+" is "+state(v, there)+"; expected "+wants(wanted))
			continue
		}
		sub, _ := source[f.name].(map[string]any)
		switch found := objects(nil, v, 2); len(found) {
		case 0:
			dst = f.object.explain(dst, at, sub, nil)
		case 1:
			dst = f.object.explain(dst, at, sub, found[0])
		default:
			dst = append(dst, "no element of "+at+" fits "+encode(sub, 200))
		}
	}
	if len(o.or) == 0 {
		return dst
	}
	alternatives, _ := source[opOr].([]any)
	text := "no alternative of " + opOr + " fits"
	if path != "" {
		text = "no alternative of " + path + "." + opOr + " fits"
	}
	for i := range o.or {
		if o.or[i].fits(members) {
			return dst
		}
		sub, _ := alternatives[i].(map[string]any)
		text += " (" + strconv.Itoa(i+1) + ": " + strings.Join(o.or[i].explain(nil, path, sub, members), ", and ") + ")"
	}
	return append(dst, clip(text, 1000))
}

// objects appends up to most objects that v is or holds in arrays.
func objects(dst []map[string]any, v any, most int) []map[string]any {
	switch v := v.(type) {
	case map[string]any:
		return append(dst, v)
	case []any:
		for _, e := range v {
			if len(dst) >= most {
				break
			}
			dst = objects(dst, e, most)
		}
	}
	return dst
}

// state says what is there.
func state(v any, there bool) string {
	if !there {
		return "absent"
	}
	if _, any := (&leaf{}).within(v); any {
		return short(v)
	}
	switch list, _ := v.([]any); {
	case list == nil:
		return "an object, which is no value"
	case len(list) == 0:
		return "an empty array"
	}
	return "an array without a value in it"
}

// wants lists alternatives.
func wants(alternatives []any) string {
	const most = 5
	var words []string
	for i, a := range alternatives {
		if i == most {
			words = append(words, "one of "+strconv.Itoa(len(alternatives)-most)+" more")
			break
		}
		word := encode(a, 80)
		if m, ok := a.(map[string]any); ok {
			switch m[opExists] {
			case true:
				word = "any value"
			case false:
				word = "no value"
			}
		}
		words = append(words, word)
	}
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// short is a value in a sentence.
func short(v any) string {
	const most = 3
	switch v := v.(type) {
	case map[string]any:
		return "an object"
	case []any:
		var words []string
		for i, e := range v {
			if i == most {
				words = append(words, strconv.Itoa(len(v)-most)+" more")
				break
			}
			words = append(words, short(e))
		}
		return "[" + strings.Join(words, ", ") + "]"
	case string:
		return encode(clip(v, 60), 0)
	case json.Number:
		return clip(string(v), 60)
	}
	return encode(v, 60)
}

// encode is JSON of at most that many bytes; 0 is no limit.
func encode(v any, most int) string {
	b, err := strictjson.Encode(v)
	if err != nil {
		return "a value"
	}
	if most == 0 {
		return string(b)
	}
	return clip(string(b), most)
}

// clip cuts a text to about that many bytes, between characters.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}
