package healthprobe

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/strictjson"
)

// Events, and the source of all of them.
const (
	source           = "balancer"
	eventHealth      = "health"
	eventCertificate = "certificate-expiring"
)

// healthData is what is told of an address: exactly Kong's five fields, and of
// one that is still down how many times that was said and since when.
type healthData struct {
	UpstreamID string `json:"upstream_id"`
	IP         string `json:"ip"`
	Port       int    `json:"port"`
	Hostname   string `json:"hostname"`
	Health     string `json:"health"`

	Reminder int64  `json:"reminder,omitempty"`
	Since    string `json:"since,omitempty"`
}

type certificateData struct {
	UpstreamID string `json:"upstream_id"`
	IP         string `json:"ip"`
	Port       int    `json:"port"`
	Hostname   string `json:"hostname"`
	NotAfter   string `json:"not_after"`
	DaysLeft   int64  `json:"days_left"`
}

// change is what is to be written of an address, and said of it once it is.
type change struct {
	w    *watched
	next hook.ProbeState
	what what
	line string      // the log's message; "" when nothing is told
	more []slog.Attr // of the line
}

// newChange completes a state with the event that tells of it.
func (v *visitor) newChange(w *watched, next hook.ProbeState, told what) (change, error) {
	c := change{w: w, next: next, what: told}
	now := v.o.Now().UTC()
	name, at := eventHealth, now
	var data any
	switch told {
	case nothing:
		return c, nil
	case certificate:
		end := moment(next.CertificateMS)
		left := daysLeft(next.CertificateMS, now.UnixMilli())
		name = eventCertificate
		data = certificateData{v.ID, w.ip.String(), w.port, w.host, end, left}
		c.line, c.more = "target certificate expiring", []slog.Attr{slog.String("not_after", end), slog.Int64("days_left", left)}
	case reminder:
		since := moment(next.SinceMS)
		// The event's name for down, whatever a last success makes of it.
		data = healthData{v.ID, w.ip.String(), w.port, w.host, string(hook.Unhealthy), next.Reminded, since}
		c.line, c.more = "target still down", []slog.Attr{slog.Int64("reminder", next.Reminded), slog.String("since", since)}
	default:
		at = time.UnixMilli(next.SinceMS).UTC()
		data = healthData{UpstreamID: v.ID, IP: w.ip.String(), Port: w.port, Hostname: w.host, Health: string(next.Health)}
		if told == order {
			c.line, c.more = "target health ordered", []slog.Attr{slog.String("order_id", next.Ordered)}
		} else {
			c.line, c.more = "target health changed", []slog.Attr{slog.String("reason", w.last.Reason)}
		}
		c.more = append(c.more, slog.String("health", string(next.Health)))
	}
	body, err := strictjson.Encode(data)
	if err != nil {
		return c, fmt.Errorf("encode event of %s: %w", w.state.Address, err)
	}
	c.next.Outbox = &hook.Event{ID: v.o.IDs.Next(), Source: source, Event: name, Time: at, Data: body}
	return c, nil
}

func moment(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// maxChanges is how many states are written before their events are sent: as
// many as one message holds. The states of an upstream are written one after
// another, and the first of many need not wait for the last.
const maxChanges = message.MaxPackedEvents

// change stores new states, sends their events, and at last stores the states
// without them.
func (v *visitor) change(ctx context.Context, all []change) error {
	var told []*watched
	var out []hook.ProbeState
	var sent []int
	for some := range slices.Chunk(all, maxChanges) {
		next := make([]hook.ProbeState, len(some))
		for i, c := range some {
			next[i] = c.next
		}
		stored, err := v.put(ctx, next)
		first := len(out)
		for i, c := range some {
			if !stored[i] {
				c.w.lost = true
				continue
			}
			c.w.state = c.next
			if c.next.Outbox != nil {
				told, out = append(told, c.w), append(out, c.next)
				v.say(ctx, c)
			}
		}
		if err != nil {
			return err // whoever took over sends what was stored
		}
		for _, i := range v.send(ctx, out[first:]) {
			sent = append(sent, first+i)
		}
	}
	err := v.clear(ctx, out, sent)
	for i, w := range told {
		w.state = out[i]
	}
	return err
}

// say counts and logs a change whose event is stored.
func (v *visitor) say(ctx context.Context, c change) {
	if c.what == transition {
		v.count(metricChanges, 1)
	}
	v.o.Log.LogAttrs(ctx, slog.LevelInfo, c.line, append([]slog.Attr{
		slog.String("upstream_id", v.ID), slog.String("target_id", c.w.target.ID), slog.String("hostname", c.w.host),
		slog.String("ip", c.w.ip.String()), slog.Int("port", c.w.port), slog.String("event_id", c.next.Outbox.ID),
	}, c.more...)...)
}
