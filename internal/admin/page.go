package admin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
	"eventhooks/internal/strictjson"
)

// Bounds of one page.
const (
	defaultSize = 100
	maxSize     = 1000
	// maxPageBytes ends a page early: Lambda answers at most 6 MB.
	maxPageBytes = 4 << 20
	// maxExamined ends a filtered page early, so that a filter that nothing
	// passes costs no more than this many records a request.
	maxExamined = 5000
	// maxOffset bounds an offset, in characters: the longest that is ours is of
	// a snooze's key, of 1 KB.
	maxOffset = 2048
	// readAhead is how many records a filter asks for at once.
	readAhead = 500
)

// page is a list as Kong answers it.
type page struct {
	Data   []json.RawMessage `json:"data"`
	Next   *string           `json:"next"`
	Offset string            `json:"offset,omitempty"`
}

// paging is what a request says about its page.
type paging struct {
	size  int
	after string // key that the page begins after, "" for the beginning
	query url.Values
	// ahead, unless nil, sees records before they are shown, many at a time.
	ahead func([]hook.Record) error
	bytes int
	rows  []json.RawMessage
}

// paging reads the query of a list; isKey says what its keys look like, so that
// an offset of another list is refused where that can be told.
func (c *call) paging(isKey func(key string) bool) (*paging, error) {
	query, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil { // what cannot be read would be left out, and another page answered than was asked for
		return nil, badQuery()
	}
	p := &paging{size: defaultSize, query: query, rows: []json.RawMessage{}}
	if p.query.Has("size") {
		size, err := strconv.ParseFloat(p.query.Get("size"), 64)
		if err != nil || size < 1 || size > maxSize || size != float64(int(size)) {
			return nil, invalidSize(fmt.Sprintf("size must be an integer between 1 and %d", maxSize))
		}
		p.size = int(size)
	}
	if offset := p.query.Get("offset"); offset != "" {
		if len(offset) > maxOffset {
			return nil, invalidOffset(offset[:8]+"...", "it is not one of ours")
		}
		raw, err := base64.RawURLEncoding.DecodeString(offset)
		if err != nil {
			return nil, invalidOffset(offset, "bad base64 encoding")
		}
		var key []string
		if json.Unmarshal(raw, &key) != nil || len(key) != 1 || !isKey(key[0]) {
			return nil, invalidOffset(offset, "it is not one of ours")
		}
		p.after = key[0]
	}
	return p, nil
}

// noQuery refuses a request that says in its query what belongs into its body:
// left out, it would do more than it was asked to. allowed are the names that
// the query may have.
func (c *call) noQuery(allowed ...string) error {
	query, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return badQuery()
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(allowed, name) {
			return invalidOption(name, "not taken in the query; what this request can say goes into its body")
		}
	}
	return nil
}

func badQuery() error {
	return refuse(http.StatusBadRequest, "Cannot parse query: it is not well encoded")
}

// isID reports whether a key is an id of ours: a UUID in lower case.
func isID(key string) bool {
	id, valid := schema.UUID(key)
	return valid && id == key
}

// encodeOffset makes an offset of a key.
func encodeOffset(key string) string {
	list, _ := strictjson.Encode([]string{key})
	return base64.RawURLEncoding.EncodeToString(list)
}

// add takes one more row, and reports whether there is room for another.
func (p *paging) add(row any) (more bool, err error) {
	b, err := strictjson.Encode(row)
	if err != nil {
		return false, fmt.Errorf("encode row: %w", err)
	}
	p.rows = append(p.rows, b)
	p.bytes += weight(b)
	return len(p.rows) < p.size && p.bytes < maxPageBytes, nil
}

// weight is how many bytes JSON takes in what a function returns to Lambda: it
// becomes a string there, once more escaped.
func weight(json []byte) int {
	n := len(json)
	for _, c := range json {
		switch c {
		case '"', '\\':
			n++
		case '<', '>', '&':
			n += len(`\u003c`) - 1
		}
	}
	return n
}

// answer returns the page; last is the key of the last row that was looked at,
// "" when there is no other page. Of the query, those that are named go into
// the next page's address.
func (p *paging) answer(path, last string, keep ...string) *answer {
	a := page{Data: p.rows}
	if last != "" {
		a.Offset = encodeOffset(last)
		next := path + "?offset=" + a.Offset
		for _, name := range append(keep, "size") {
			if p.query.Has(name) {
				next += "&" + name + "=" + url.QueryEscape(p.query.Get(name))
			}
		}
		a.Next = &next
	}
	return ok(a)
}

// fill adds the records of a kind that show accepts, and returns the key for
// answer. filtered says that it may refuse some.
func (s *Service) fill(ctx context.Context, p *paging, kind, prefix string, filtered bool, show func(hook.Record) (row any, accepted bool, err error)) (last string, err error) {
	after := p.after
	for examined := 0; ; {
		limit := p.size - len(p.rows)
		if filtered {
			limit = max(limit, readAhead)
		}
		records, more, err := s.o.Store.List(ctx, kind, prefix, after, limit, s.now())
		if err != nil {
			return "", fmt.Errorf("list %s: %w", kind, err)
		}
		if p.ahead != nil {
			if err := p.ahead(records); err != nil {
				return "", err
			}
		}
		for i, r := range records {
			after = r.ID
			row, accepted, err := show(r)
			if err != nil {
				return "", err
			}
			if !accepted {
				continue
			}
			room, err := p.add(row)
			if err != nil {
				return "", err
			}
			if !room {
				if i+1 < len(records) || more {
					return after, nil
				}
				return "", nil
			}
		}
		examined += len(records)
		if !more || len(records) == 0 {
			return "", nil
		}
		if examined >= maxExamined {
			return after, nil
		}
	}
}

// all calls do with every record of a kind whose id begins with prefix, until
// it returns false.
func (s *Service) all(ctx context.Context, kind, prefix string, do func(hook.Record) (more bool, err error)) error {
	after := ""
	for {
		records, more, err := s.o.Store.List(ctx, kind, prefix, after, readAhead, s.now())
		if err != nil {
			return fmt.Errorf("list %s: %w", kind, err)
		}
		for _, r := range records {
			after = r.ID
			if again, err := do(r); err != nil || !again {
				return err
			}
		}
		if !more || len(records) == 0 {
			return nil
		}
	}
}

// tagFilter returns what the query's `tags` asks for: Kong's `a,b` has both,
// `a/b` one of them.
func tagFilter(query url.Values) (func(tags []string) bool, error) {
	if !query.Has("tags") {
		return func([]string) bool { return true }, nil
	}
	raw := query.Get("tags")
	both, either := strings.Split(raw, ","), strings.Split(raw, "/")
	if len(both) > 1 && len(either) > 1 || slices.Contains(both, "") || slices.Contains(either, "") {
		return nil, invalidOption("tags", "invalid filter syntax")
	}
	if len(either) > 1 {
		return func(tags []string) bool {
			return slices.ContainsFunc(either, func(t string) bool { return slices.Contains(tags, t) })
		}, nil
	}
	return func(tags []string) bool {
		return !slices.ContainsFunc(both, func(t string) bool { return !slices.Contains(tags, t) })
	}, nil
}
