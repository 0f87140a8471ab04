// Package message is the form of what the queues carry: how events, wake-ups
// and records become the bodies of messages, and back.
//
//	{"v":1,"events":[{"id","source","event","time","workspace"?,"traceparent"?,"data"}],"lo"?,"hi"?,"again"?}
//	{"v":1,"hook","event","seq","probe"?}
//	{"v":1,"record":{…}}
//
// The form is strict both ways: a member that this version does not know is an
// error, because it may say that the rest means something else. Such a message
// goes back to the queue, and to the dead-letter queue in the end.
//
// Bodies hold only the characters that SQS takes: JSON escapes control
// characters by itself, U+FFFE and U+FFFF inside strings are escaped here.
// Whoever reads the data of an event finds the same text, spelled differently.
package message

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// version is the form's version.
const version = 1

// What Pack puts into one body. SQS bills each started 64 KiB as a request, so
// this is the most that one request carries; the number of events bounds the
// work that one message makes, and what is sent again when it fails.
const (
	MaxPackedBytes  = 64 << 10
	MaxPackedEvents = 50
)

// Message is what a body says: exactly one of Events, Wake and Record.
type Message struct {
	Events []hook.Event
	// Lo and Hi restrict the events to hooks with Lo <= id < Hi: a piece of a
	// message that had too many hooks to call. "" is no bound.
	Lo, Hi string
	// Again says that the events came in a message that was received before:
	// some of their deliveries may have a row already.
	Again bool

	Wake   *hook.Wake
	Record *hook.Delivery
}

// Packed is one body and which of the events it holds.
type Packed struct {
	Body  string
	First int // index of its first event
	Count int
}

const (
	head  = `{"v":` + versionText + `,"events":[`
	tail  = `]}`
	again = `],"again":true}`

	versionText = "1"
)

// Pack puts events into bodies of at most MaxPackedBytes and MaxPackedEvents,
// in their order; an event that is larger alone has a body of its own. The
// events' Data are compact JSON objects.
func Pack(events []hook.Event) []Packed { return pack(events, tail) }

// PackAgain is Pack for events that may have been sent before: deliver looks
// for the rows of their deliveries before it attempts any.
func PackAgain(events []hook.Event) []Packed { return pack(events, again) }

func pack(events []hook.Event, tail string) []Packed {
	if len(events) == 0 {
		return nil
	}
	size := len(head) + len(tail)
	for _, ev := range events {
		size += estimate(ev)
	}
	packed := make([]Packed, 0, 1+max(size/MaxPackedBytes, len(events)/MaxPackedEvents))
	buf := append(make([]byte, 0, min(size, 2*MaxPackedBytes)), head...)
	first := 0
	for i, ev := range events {
		end := len(buf)
		if i > first {
			buf = append(buf, ',')
		}
		buf = appendEvent(buf, ev)
		if i > first && (len(buf)+len(tail) > MaxPackedBytes || i-first == MaxPackedEvents) {
			// It does not fit: close the body before it, and move it to the next.
			packed = append(packed, Packed{string(buf[:end]) + tail, first, i - first})
			buf = append(buf[:len(head)], buf[end+1:]...)
			first = i
		}
	}
	return append(packed, Packed{string(append(buf, tail...)), first, len(events) - first})
}

// estimate is about what an event takes; too little costs a copy.
func estimate(ev hook.Event) int {
	return len(`{"id":"","source":"","event":"","time":"2006-01-02T15:04:05.999999999Z","data":},`) +
		len(ev.ID) + len(ev.Source) + len(ev.Event) + len(ev.Data) + 2*len(ev.Workspace) + 2*len(ev.Traceparent)
}

// Piece returns the body of one event for the hooks with lo <= id < hi; "" is
// no bound.
func Piece(ev hook.Event, lo, hi string) string { return piece(ev, lo, hi, "}") }

// PieceAgain is Piece for an event that may have been sent before, as PackAgain
// is Pack.
func PieceAgain(ev hook.Event, lo, hi string) string { return piece(ev, lo, hi, `,"again":true}`) }

func piece(ev hook.Event, lo, hi, tail string) string {
	buf := append(make([]byte, 0, estimate(ev)+len(lo)+len(hi)+64), head...)
	buf = append(appendEvent(buf, ev), ']')
	if lo != "" {
		buf = appendString(append(buf, `,"lo":`...), lo)
	}
	if hi != "" {
		buf = appendString(append(buf, `,"hi":`...), hi)
	}
	return string(append(buf, tail...))
}

// Wake returns the body of a wake-up.
func Wake(w hook.Wake) string {
	buf := append(make([]byte, 0, 128), `{"v":`+versionText+`,"hook":`...)
	buf = appendString(buf, w.HookID)
	buf = appendString(append(buf, `,"event":`...), w.EventID)
	buf = strconv.AppendInt(append(buf, `,"seq":`...), w.Seq, 10)
	if w.Probe {
		buf = append(buf, `,"probe":true`...)
	}
	return string(append(buf, '}'))
}

func appendEvent(buf []byte, ev hook.Event) []byte {
	buf = appendString(append(buf, `{"id":`...), ev.ID)
	buf = appendString(append(buf, `,"source":`...), ev.Source)
	buf = appendString(append(buf, `,"event":`...), ev.Event)
	buf = append(buf, `,"time":"`...)
	buf = append(ev.Time.UTC().AppendFormat(buf, time.RFC3339Nano), '"')
	if ev.Workspace != "" {
		buf = appendString(append(buf, `,"workspace":`...), ev.Workspace)
	}
	if ev.Traceparent != "" {
		buf = appendString(append(buf, `,"traceparent":`...), ev.Traceparent)
	}
	buf = appendAllowed(append(buf, `,"data":`...), ev.Data)
	return append(buf, '}')
}

const digits = "0123456789abcdef"

// appendString appends s as a JSON string of characters that SQS takes. Bytes
// that are not UTF-8 become U+FFFD, as everywhere in Go.
func appendString(buf []byte, s string) []byte {
	buf = append(buf, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			buf = append(buf, s[from:i]...)
			switch c {
			case '"', '\\':
				buf = append(buf, '\\', c)
			case '\n':
				buf = append(buf, '\\', 'n')
			case '\r':
				buf = append(buf, '\\', 'r')
			case '\t':
				buf = append(buf, '\\', 't')
			default:
				buf = append(buf, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			}
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		var escaped string
		switch {
		case r == utf8.RuneError && n == 1:
			escaped = "\uFFFD"
		case r == '\uFFFE':
			escaped = `\ufffe`
		case r == '\uFFFF':
			escaped = `\uffff`
		default:
			i += n
			continue
		}
		buf = append(append(buf, s[from:i]...), escaped...)
		i += n
		from = i
	}
	return append(append(buf, s[from:]...), '"')
}

// appendAllowed appends JSON, with U+FFFE and U+FFFF escaped: in JSON they can
// only stand inside strings. Their UTF-8 is EF BF BE and EF BF BF.
func appendAllowed(buf, raw []byte) []byte {
	for {
		i := bytes.Index(raw, []byte("\xef\xbf"))
		if i < 0 || i+2 >= len(raw) {
			return append(buf, raw...)
		}
		switch raw[i+2] {
		case 0xbe:
			buf = append(append(buf, raw[:i]...), `\ufffe`...)
		case 0xbf:
			buf = append(append(buf, raw[:i]...), `\uffff`...)
		default:
			buf = append(buf, raw[:i+3]...)
		}
		raw = raw[i+3:]
	}
}

// record is a delivery row with all its fields, as json sees it. Times are
// milliseconds.
type record struct {
	Hook   string          `json:"hook"`
	Event  json.RawMessage `json:"event"` // as in events
	Gen    int64           `json:"gen,omitempty"`
	Status hook.Status     `json:"status"`
	Reason string          `json:"reason,omitempty"`

	Run     int64 `json:"run"`
	Attempt int64 `json:"attempt,omitempty"`
	Seq     int64 `json:"seq,omitempty"`
	Tries   int64 `json:"tries,omitempty"`
	Parks   int64 `json:"parks,omitempty"`
	Nudges  int64 `json:"nudges,omitempty"`

	CreatedMS  int64 `json:"created_ms,omitempty"`
	DeadlineMS int64 `json:"deadline_ms,omitempty"`
	DueMS      int64 `json:"due_ms,omitempty"`
	WakeMS     int64 `json:"wake_ms,omitempty"`
	LeaseMS    int64 `json:"lease_ms,omitempty"`

	Attempts []attempt `json:"attempts,omitempty"`
	Response *response `json:"response,omitempty"`

	Slot   string `json:"slot,omitempty"`
	Snooze string `json:"snooze_key,omitempty"`

	ExpiresAt int64 `json:"expires_at,omitempty"` // seconds
}

type attempt struct {
	AtMS   int64  `json:"at_ms"`
	TookMS int64  `json:"took_ms"`
	Code   int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
	IP     string `json:"ip,omitempty"`
}

type response struct {
	Code    int               `json:"status,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
}

// Record returns the body that carries a delivery which could not be recorded.
func Record(d hook.Delivery) string {
	r := record{
		Hook: d.HookID, Event: appendEvent(nil, d.Event), Gen: d.Gen, Status: d.Status, Reason: d.Reason,
		Run: d.Run, Attempt: d.Attempt, Seq: d.Seq, Tries: d.Tries, Parks: d.Parks, Nudges: d.Nudges,
		CreatedMS: d.CreatedMS, DeadlineMS: d.DeadlineMS, DueMS: d.DueMS, WakeMS: d.WakeMS, LeaseMS: d.LeaseMS,
		Slot: d.SlotKey, Snooze: d.SnoozeKey, ExpiresAt: d.ExpiresAt, Response: (*response)(d.Response),
	}
	for _, a := range d.Attempts {
		r.Attempts = append(r.Attempts, attempt(a))
	}
	doc, err := strictjson.Encode(r)
	if err != nil {
		// Only an Event.Data that is no JSON gets here. The row is the truth of
		// what was done, so it goes without the data rather than not at all.
		bare := d.Event
		bare.Data = []byte("{}")
		r.Event = appendEvent(nil, bare)
		doc, _ = strictjson.Encode(r)
	}
	buf := append(make([]byte, 0, len(doc)+32), `{"v":`+versionText+`,"record":`...)
	return string(append(appendAllowed(buf, doc), '}'))
}
