package match

import (
	"strconv"

	"eventhooks/internal/filter"
	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// parseFilter reads a hook's filter; nil, which fits any data, for one that is
// none. It was checked when the hook was saved, so one that does not parse was
// written by a version that knows more: its hook had better be told too much
// than lose events.
func parseFilter(doc []byte) *filter.Pattern {
	p, err := filter.Parse(doc)
	if err != nil {
		return nil
	}
	return p
}

// data are an event's data, decoded when they are first asked for. Not safe for
// concurrent use.
type data struct {
	raw     []byte
	decoded bool
	members map[string]any
}

// read returns the data's members; nil for data that are no object, or no JSON.
// Those fit any filter: ingest lets none pass, and what came by another way is
// told, not lost.
func (d *data) read() map[string]any {
	if !d.decoded {
		v, _ := strictjson.Decode(d.raw, strictjson.Limits{})
		d.members, _ = v.(map[string]any)
		d.decoded = true
	}
	return d.members
}

// Explain says why a hook would not be told of an event, as it stands now: a
// sentence for each reason there is, of what the hook is bound to, that it is
// disabled, of the workspace, of the filter, in this order; nil when it would.
// What on_change and snooze would say is not among them.
func Explain(h hook.Hook, ev hook.Event) []string {
	var out []string
	if h.Source != ev.Source {
		out = append(out, "the hook is for source "+strconv.Quote(h.Source)+", and the event's is "+strconv.Quote(ev.Source))
	}
	if h.Event != "" && h.Event != ev.Event {
		out = append(out, "the hook is for event "+strconv.Quote(h.Event)+", and this one is "+strconv.Quote(ev.Event))
	}
	if !h.Enabled {
		why := "the hook is disabled"
		if h.DisabledReason != "" {
			why += ": " + h.DisabledReason
		}
		out = append(out, why)
	}
	if h.Workspace != "" && h.Workspace != ev.Workspace {
		names := "names none"
		if ev.Workspace != "" {
			names = "names " + strconv.Quote(ev.Workspace)
		}
		out = append(out, "the hook is for workspace "+strconv.Quote(h.Workspace)+", and the event "+names)
	}
	if len(h.Filter) == 0 {
		return out
	}
	d := data{raw: ev.Data}
	if m := d.read(); m != nil {
		for _, why := range parseFilter(h.Filter).Explain(m) {
			out = append(out, "filter: "+why)
		}
	}
	return out
}
