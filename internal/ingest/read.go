package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// Limits of an event's parts.
const (
	maxName      = 255 // bytes of a source's or event's name
	maxWorkspace = 255 // characters
	maxListed    = 50  // names in an answer that lists what is known
)

// read returns the request's events, without ids, and with a zero Time where
// the sender named none.
func (s *Service) read(ctx context.Context, req *request) ([]hook.Event, error) {
	p := parser{req: req}
	if err := p.parse(); err != nil {
		return nil, err
	}
	if s.o.AcceptUnknown {
		return p.events, nil
	}
	if s.sources.stale() {
		// What is known stays known while the store cannot be asked.
		if err := s.sources.refresh(ctx); err != nil {
			s.log().WarnContext(ctx, "catalogue is not fresh", "err", err)
		}
	}
	i := s.unknown(p.events)
	if i < 0 {
		return p.events, nil
	}
	if err := s.sources.refresh(ctx); err != nil {
		return nil, unavailable(err)
	}
	if i = s.unknown(p.events); i >= 0 {
		return nil, p.at(i, s.whatIsKnown(req.token, p.events[i]))
	}
	return p.events, nil
}

// unknown returns the index of the first event that the catalogue does not
// have, -1 when it has all.
func (s *Service) unknown(events []hook.Event) int {
	c := s.catalog()
	for i, ev := range events {
		if i > 0 && ev.Source == events[i-1].Source && ev.Event == events[i-1].Event {
			continue
		}
		if ev.Source == hook.PingSource && ev.Event == hook.PingEvent {
			continue
		}
		if !c.Has(ev.Source, ev.Event) {
			return i
		}
	}
	return -1
}

// whatIsKnown says what an event could have been instead.
func (s *Service) whatIsKnown(t hook.Token, ev hook.Event) hook.FieldErrors {
	c := s.catalog()
	if ev.Source == "crud" { // has an event for every entity, so it is its form that is wrong
		return hook.FieldErrors{"event": fmt.Sprintf("the source crud has no event %s; its events are the names of entities (a-z, 0-9, _), alone or with :create, :update or :delete",
			quote(ev.Event))}
	}
	if c.HasSource(ev.Source) {
		var names []string
		for _, e := range c.Events(ev.Source) {
			names = append(names, e.Event)
		}
		return hook.FieldErrors{"event": fmt.Sprintf("the source %s has no event %s; it has: %s",
			ev.Source, quote(ev.Event), enumerate(names))}
	}
	var names []string
	for _, name := range c.Sources() {
		if name != hook.SystemSource && t.AllowsSource(name) {
			names = append(names, name)
		}
	}
	return hook.FieldErrors{"source": fmt.Sprintf("there is no source %s; there is: %s; others are registered with PUT /event-hooks/sources/{source}/{event}",
		quote(ev.Source), enumerate(names))}
}

func enumerate(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	if n := len(names) - maxListed; n > 0 {
		return strings.Join(names[:maxListed], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ")
}

// parser reads a body. The first fault that it meets is the answer; all faults
// of that event are in it.
type parser struct {
	req    *request
	events []hook.Event
	batch  bool // the body is an array

	members []member // of the event at hand
	// One piece of memory for the data of all events: it is never larger than
	// the body, by the separators of a flat event at most.
	data []byte
}

// member is one member of an envelope, as it stands in the body.
type member struct {
	name   string // of the six known ones, else ""
	quoted []byte
	value  []byte
}

func (p *parser) parse() error {
	if p.req.source != "" {
		fe := hook.FieldErrors{}
		checkName(fe, "source", p.req.source)
		checkName(fe, "event", p.req.event)
		if len(fe) > 0 {
			return &problem{status: http.StatusBadRequest, Message: "the path: " + fe.Error(), Fields: fe}
		}
	}
	p.data = make([]byte, 0, len(p.req.body))
	r := strictjson.Open(p.req.body)
	var fault *problem // ours; what is wrong with the JSON is r's
	one := func() {
		if fault == nil {
			fault = p.event(r)
		}
	}
	switch r.Kind() {
	case '[':
		p.batch = true
		r.Array(func() {
			switch {
			case fault != nil:
			case len(p.events) == hook.MaxRequestEvents:
				fault = &problem{
					status:  http.StatusRequestEntityTooLarge,
					Message: fmt.Sprintf("a request may have at most %d events: split it", hook.MaxRequestEvents),
				}
			default:
				one()
			}
			if fault != nil {
				r.Fail("") // ends the reading; what is told is fault
			}
		})
	case '{':
		// Before it is read: one object may have as many names as fit.
		if len(bytes.TrimSpace(p.req.body)) > hook.MaxEventBytes {
			fault = p.tooLarge()
		} else {
			one()
		}
		if fault != nil {
			r.Fail("")
		}
	default:
		r.Raw()
		r.Fail("expected an object or an array of objects, got " + strictjson.KindName(p.req.body))
	}
	err := r.Close()
	if fault != nil {
		return fault
	}
	if err != nil {
		return p.broken(err)
	}
	if len(p.events) == 0 {
		return &problem{status: http.StatusBadRequest, Message: "expected at least one event, got an empty array"}
	}
	return nil
}

// event reads one event.
func (p *parser) event(r *strictjson.Reader) *problem {
	before := r.Offset()
	if k := r.Kind(); k != '{' {
		raw := r.Raw()
		if raw == nil {
			return nil // no JSON: r knows
		}
		return p.at(len(p.events), hook.FieldErrors{"@entity": "expected an object, got " + strictjson.KindName(raw)})
	}
	var ev hook.Event
	var fault *problem
	if p.req.source != "" {
		raw := r.Raw()
		if raw == nil {
			return nil
		}
		if len(raw) > hook.MaxEventBytes {
			return p.tooLarge()
		}
		ev = hook.Event{Source: p.req.source, Event: p.req.event, Traceparent: p.req.traceparent}
		ev.Data, fault = p.compact(raw, "")
	} else {
		p.members = p.members[:0]
		r.Object(func(name []byte) {
			p.members = append(p.members, member{known(name), r.QuotedName(), r.Raw()})
		})
		raw := r.Since(before)
		if raw == nil {
			return nil
		}
		if len(raw) > hook.MaxEventBytes {
			return p.tooLarge()
		}
		ev, fault = p.envelope()
	}
	if fault != nil {
		return fault
	}
	p.events = append(p.events, ev)
	return nil
}

// known returns name as one of the names that an envelope may have, or "".
func known(name []byte) string {
	switch string(name) {
	case "source":
		return "source"
	case "event":
		return "event"
	case "data":
		return "data"
	case "time":
		return "time"
	case "workspace":
		return "workspace"
	case "traceparent":
		return "traceparent"
	case "id":
		return "id"
	}
	return ""
}

// envelope makes an event of the members at hand. With a member data the
// others describe it; without one, everything but source and event is the
// data: so Kong's own webhook handler sends it.
func (p *parser) envelope() (hook.Event, *problem) {
	ev := hook.Event{Traceparent: p.req.traceparent}
	fe := hook.FieldErrors{}
	flat := true
	var source, event, data []byte
	for _, m := range p.members {
		switch m.name {
		case "source":
			source = m.value
		case "event":
			event = m.value
		case "data":
			flat = false
			data = m.value
		}
	}
	ev.Source = name(fe, "source", source)
	ev.Event = name(fe, "event", event)
	if ev.Source != "" && ev.Event != "" && len(fe) == 0 {
		if f := mayPost(p.req.token, ev.Source, ev.Event); f != nil {
			return ev, p.point(len(p.events), f)
		}
	}
	if flat {
		if len(fe) > 0 {
			return ev, p.at(len(p.events), fe)
		}
		var f *problem
		ev.Data, f = p.flatten()
		return ev, f
	}

	if strictjson.Kind(data) != '{' {
		fe.Add("data", "expected an object, got %s", strictjson.KindName(data))
	}
	for _, m := range p.members {
		null := strictjson.Kind(m.value) == 'n' // the same as absent
		switch m.name {
		case "source", "event", "data":
		case "id":
			fe.Add("id", "must not be sent: ids are given here, and are in the answer")
		case "time":
			if !null {
				ev.Time = timestamp(fe, m.value)
			}
		case "workspace":
			if !null {
				ev.Workspace = workspace(fe, m.value)
			}
		case "traceparent":
			if !null {
				ev.Traceparent = traceparent(fe, m.value)
			}
		default:
			field, _ := strictjson.String(m.quoted)
			fe.Add(clip(field), "unknown field; beside data there may be source, event, time, workspace and traceparent")
		}
	}
	if len(fe) > 0 {
		return ev, p.at(len(p.events), fe)
	}
	var f *problem
	ev.Data, f = p.compact(data, "/data")
	return ev, f
}

// compact returns data as it is kept. at is where it stands in the event.
func (p *parser) compact(raw []byte, at string) ([]byte, *problem) {
	// The limits of those who will read the data; a document that may hold
	// a thousand events cannot have them as a whole.
	if !strictjson.Within(raw, strictjson.Limits{}) {
		return nil, p.beyond(raw, at)
	}
	begin := len(p.data)
	p.data = strictjson.Compact(p.data, raw)
	return p.data[begin:len(p.data):len(p.data)], nil
}

// flatten makes data of all members but source and event.
func (p *parser) flatten() ([]byte, *problem) {
	begin := len(p.data)
	p.data = append(p.data, '{')
	for _, m := range p.members {
		if m.name == "source" || m.name == "event" {
			continue
		}
		if len(p.data) > begin+1 {
			p.data = append(p.data, ',')
		}
		p.data = append(append(p.data, m.quoted...), ':')
		p.data = strictjson.Compact(p.data, m.value)
	}
	p.data = append(p.data, '}')
	data := p.data[begin:len(p.data):len(p.data)]
	if !strictjson.Within(data, strictjson.Limits{}) {
		return nil, p.beyond(data, "")
	}
	return data, nil
}

// name reads the name of a source or an event.
func name(fe hook.FieldErrors, field string, raw []byte) string {
	if raw == nil {
		fe.Add(field, "required field missing")
		return ""
	}
	s, ok := strictjson.String(raw)
	if !ok {
		fe.Add(field, "expected a string, got %s", strictjson.KindName(raw))
		return ""
	}
	checkName(fe, field, s)
	return s
}

// checkName refuses what no source or event can be called.
func checkName(fe hook.FieldErrors, field, s string) {
	switch {
	case s == "":
		fe.Add(field, "must not be empty")
	case len(s) > maxName:
		fe.Add(field, "has %d bytes, at most %d are allowed", len(s), maxName)
	case !utf8.ValidString(s):
		fe.Add(field, "must be UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' }):
		fe.Add(field, "must not contain a slash or a control character")
	}
}

func timestamp(fe hook.FieldErrors, raw []byte) time.Time {
	const want = `expected a time of RFC 3339 like "2026-11-21T18:00:00.123Z"`
	s, ok := strictjson.String(raw)
	if !ok {
		if strictjson.Kind(raw) == '0' {
			fe.Add("time", "%s, got a number: seconds or milliseconds since 1970 are not taken", want)
		} else {
			fe.Add("time", "%s, got %s", want, strictjson.KindName(raw))
		}
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || !rfc3339(s) {
		fe.Add("time", "%s, got %s", want, quote(s))
		return time.Time{}
	}
	t = t.UTC()
	if y := t.Year(); y < 1 || y > 9999 || t.IsZero() {
		fe.Add("time", "must be in the years 1 to 9999 of UTC, got %s", quote(s))
	}
	return t
}

// rfc3339 reports whether s is written as RFC 3339 has it. time.Parse also
// takes a comma, hours of one digit and zones of 99 hours. Digits beyond
// nanoseconds are cut.
func rfc3339(s string) bool {
	const form = "0000-00-00T00:00:00"
	digits := func(s string) bool { return strings.Trim(s, "0123456789") == "" }
	if len(s) <= len(form) {
		return false
	}
	for i := range len(form) {
		if form[i] == '0' && !digits(s[i:i+1]) || form[i] != '0' && s[i] != form[i] {
			return false
		}
	}
	rest := s[len(form):]
	if fraction, ok := strings.CutPrefix(rest, "."); ok {
		rest = strings.TrimLeft(fraction, "0123456789")
		if len(rest) == len(fraction) {
			return false
		}
	}
	if rest == "Z" {
		return true
	}
	return len(rest) == len("+00:00") && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':' &&
		digits(rest[1:3]) && digits(rest[4:]) && rest[1:3] < "24" && rest[4:] < "60"
}

func workspace(fe hook.FieldErrors, raw []byte) string {
	s, ok := strictjson.String(raw)
	if !ok {
		fe.Add("workspace", "expected a string, got %s", strictjson.KindName(raw))
	} else if n := utf8.RuneCountInString(s); n > maxWorkspace {
		fe.Add("workspace", "has %d characters, at most %d are allowed", n, maxWorkspace)
	}
	return s
}

func traceparent(fe hook.FieldErrors, raw []byte) string {
	s, ok := strictjson.String(raw)
	if !ok {
		fe.Add("traceparent", "expected a string, got %s", strictjson.KindName(raw))
	} else if !validTraceparent(s) {
		fe.Add("traceparent", "expected a W3C trace context like 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01, got %s", quote(s))
	}
	return s
}

// validTraceparent reports whether s has the form of W3C Trace Context, level
// 1: of version 00 exactly, of a later one with what it may append.
func validTraceparent(s string) bool {
	const size = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(s) < size || len(s) > 255 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	for _, part := range []string{s[:2], s[3:35], s[36:52], s[53:55]} {
		for i := range len(part) {
			if c := part[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	switch {
	case s[:2] == "ff", strings.Trim(s[3:35], "0") == "", strings.Trim(s[36:52], "0") == "":
		return false
	case s[:2] == "00":
		return len(s) == size
	}
	return len(s) == size || s[size] == '-' && printable(s)
}

// printable reports whether s is not empty and all printable ASCII.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// at is a fault of the event with that index.
func (p *parser) at(i int, fe hook.FieldErrors) *problem {
	message := fe.Error()
	if whole, ok := fe["@entity"]; ok && len(fe) == 1 {
		message = whole
	}
	return p.point(i, &problem{status: http.StatusBadRequest, Message: message, Fields: fe})
}

// point names the event that a fault belongs to.
func (p *parser) point(i int, f *problem) *problem {
	f.Index = &i
	if p.batch {
		f.Message = "event " + strconv.Itoa(i) + ": " + f.Message
	}
	return f
}

func (p *parser) tooLarge() *problem {
	return p.point(len(p.events), &problem{
		status:  http.StatusRequestEntityTooLarge,
		Message: fmt.Sprintf("an event may have at most %d bytes", hook.MaxEventBytes),
	})
}

// beyond says which limit the event's data does not keep. at is where data
// stands in the event.
func (p *parser) beyond(data []byte, at string) *problem {
	e := &strictjson.Error{Reason: "beyond a limit of JSON"}
	errors.As(strictjson.Check(data, strictjson.Limits{}), &e)
	return p.at(len(p.events), hook.FieldErrors{field(at + e.Pointer): e.Reason})
}

// broken is the answer to a body that is not strict JSON.
func (p *parser) broken(err error) error {
	var e *strictjson.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("read body: %w", err)
	}
	pointer := e.Pointer
	f := &problem{status: http.StatusBadRequest, Message: e.Reason}
	if p.batch {
		first, rest, _ := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
		i, err := strconv.Atoi(first)
		if err != nil {
			f.Message = "the body: " + f.Message
			return f
		}
		if pointer = ""; rest != "" {
			pointer = "/" + rest
		}
		f.Fields = hook.FieldErrors{field(pointer): e.Reason}
		f.Message = f.Fields.Error()
		return p.point(i, f)
	}
	if pointer == "" {
		f.Message = "the body: " + f.Message
		return f
	}
	f.Fields = hook.FieldErrors{field(pointer): e.Reason}
	f.Message = f.Fields.Error()
	return p.point(0, f)
}

// field writes a JSON pointer as the dotted name of a field.
func field(pointer string) string {
	if pointer == "" {
		return "@entity"
	}
	return strings.NewReplacer("/", ".", "~1", "/", "~0", "~").Replace(pointer[1:])
}

// quote puts a stranger's text into a message.
func quote(s string) string { return strconv.Quote(clip(s)) }

// clip cuts a stranger's text to what a message bears.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
