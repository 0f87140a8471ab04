package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// Errors of Decode, beside those that say what is wrong with the JSON.
var (
	// ErrVersion: the message is of a form that this program does not know;
	// a newer program made it.
	ErrVersion = errors.New("unknown version of a message")
	// ErrShape: the message is JSON, but none of the three kinds.
	ErrShape = errors.New("no message of ours")
)

// Decode reads a body. What it returns does not hold on to the body.
func Decode(body string) (Message, error) {
	var m Message
	// One copy of the body, of which each event's data is a part.
	r := strictjson.Open([]byte(body))
	var (
		v, seq        int64
		hookID, event string
		wake, record  bool
		probe         bool
		raw           []byte
	)
	r.Object(func(name []byte) {
		switch string(name) {
		case "v":
			if v = r.Int(); v != version {
				r.Fail("another version")
			}
		case "events":
			m.Events = make([]hook.Event, 0, 8)
			r.Array(func() { m.Events = append(m.Events, readEvent(r)) })
		case "lo":
			m.Lo = r.String()
		case "hi":
			m.Hi = r.String()
		case "again":
			if m.Again = string(r.Raw()) == "true"; !m.Again {
				r.Fail("true, or nothing")
			}
		case "hook":
			wake = true
			hookID = r.String()
		case "event":
			wake = true
			event = r.String()
		case "seq":
			wake = true
			seq = r.Int()
		case "probe":
			wake = true
			if probe = string(r.Raw()) == "true"; !probe {
				r.Fail("true, or nothing")
			}
		case "record":
			record = true
			raw = r.Raw()
		default:
			r.Raw()
			r.Fail("unknown member")
		}
	})
	if err := r.Close(); err != nil {
		if v != version && v != 0 {
			return Message{}, fmt.Errorf("decode message: %w: %d", ErrVersion, v)
		}
		return Message{}, fmt.Errorf("decode message: %w", err)
	}
	events := m.Events != nil || m.Lo != "" || m.Hi != "" || m.Again
	switch {
	case v != version:
		return Message{}, fmt.Errorf("decode message: %w: none named", ErrVersion)
	case events && !wake && !record:
		if len(m.Events) == 0 {
			return Message{}, fmt.Errorf("decode message: %w: no events", ErrShape)
		}
	case wake && !events && !record:
		if hookID == "" || event == "" {
			return Message{}, fmt.Errorf("decode message: %w: a wake-up without hook or event", ErrShape)
		}
		m.Wake = &hook.Wake{DeliveryKey: hook.DeliveryKey{HookID: hookID, EventID: event}, Seq: seq, Probe: probe}
	case record && !events && !wake:
		d, err := readRecord(raw)
		if err != nil {
			return Message{}, fmt.Errorf("decode message: %w", err)
		}
		m.Record = &d
	default:
		return Message{}, fmt.Errorf("decode message: %w", ErrShape)
	}
	return m, nil
}

func readEvent(r *strictjson.Reader) hook.Event {
	var (
		ev    hook.Event
		timed bool
	)
	r.Object(func(name []byte) {
		switch string(name) {
		case "id":
			ev.ID = r.String()
		case "source":
			ev.Source = r.String()
		case "event":
			ev.Event = r.String()
		case "time":
			t, err := time.Parse(time.RFC3339Nano, r.String())
			t = t.UTC()
			if err != nil || t.Year() < 0 || t.Year() > 9999 { // such a one could not be written again
				r.Fail("no time of RFC 3339")
			}
			ev.Time, timed = t, true
		case "workspace":
			ev.Workspace = r.String()
		case "traceparent":
			ev.Traceparent = r.String()
		case "data":
			ev.Data = r.Raw()
			if strictjson.Kind(ev.Data) != '{' {
				r.Fail("expected an object, got " + strictjson.KindName(ev.Data))
			}
		default:
			r.Raw()
			r.Fail("unknown member")
		}
	})
	if ev.ID == "" || ev.Source == "" || ev.Event == "" || !timed || ev.Data == nil {
		r.Fail("an event needs id, source, event, time and data")
	}
	return ev
}

func readRecord(raw []byte) (hook.Delivery, error) {
	var doc record
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return hook.Delivery{}, fmt.Errorf("read record: %w", err)
	}
	r := strictjson.Open(doc.Event)
	ev := readEvent(r)
	if err := r.Close(); err != nil {
		return hook.Delivery{}, fmt.Errorf("read record's event: %w", err)
	}
	if doc.Hook == "" || doc.Status == "" {
		return hook.Delivery{}, fmt.Errorf("read record: %w: no hook or no status", ErrShape)
	}
	out := hook.Delivery{
		HookID: doc.Hook, Event: ev, Gen: doc.Gen, Status: doc.Status, Reason: doc.Reason,
		Run: doc.Run, Attempt: doc.Attempt, Seq: doc.Seq, Tries: doc.Tries, Parks: doc.Parks, Nudges: doc.Nudges,
		CreatedMS: doc.CreatedMS, DeadlineMS: doc.DeadlineMS, DueMS: doc.DueMS, WakeMS: doc.WakeMS, LeaseMS: doc.LeaseMS,
		SlotKey: doc.Slot, SnoozeKey: doc.Snooze, ExpiresAt: doc.ExpiresAt, Response: (*hook.Response)(doc.Response),
	}
	for _, a := range doc.Attempts {
		out.Attempts = append(out.Attempts, hook.Attempt(a))
	}
	return out, nil
}
