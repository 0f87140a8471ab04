package lambdaevent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"eventhooks/internal/hook"
)

// maxProbe is the size of the largest event that healthprobe takes, in bytes.
const maxProbe = 1 << 10

// Probe returns a Lambda handler for healthprobe. The schedule's {} is a run for
// all upstreams; {"from":"…","to":"…"}, which the function sends to itself, one
// for those of a part, where either may be left out. Any other event is an
// error: what was meant for another function must not look like a run.
//
// A panic is an error too, and the process goes on.
func Probe(run func(context.Context, hook.UpstreamRange) error) func(context.Context, json.RawMessage) error {
	return func(ctx context.Context, raw json.RawMessage) (err error) {
		defer recovered(ctx, &err)
		part, err := probed(raw)
		if err != nil {
			return err
		}
		return run(ctx, part)
	}
}

// probed reads the part of all upstreams that an event asks for. Errors do not
// repeat what it holds.
func probed(raw []byte) (part hook.UpstreamRange, err error) {
	if len(raw) > maxProbe {
		return part, fmt.Errorf("event has %d bytes; healthprobe takes at most %d", len(raw), maxProbe)
	}
	var fields map[string]*string
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return part, errors.New("event is not an object of strings")
	}
	for name, value := range fields {
		switch {
		case value == nil:
			return hook.UpstreamRange{}, errors.New("event is not an object of strings")
		case name == "from":
			part.From = *value
		case name == "to":
			part.To = *value
		default:
			return hook.UpstreamRange{}, errors.New(`event has a member that is neither "from" nor "to"`)
		}
	}
	if part.To != "" && part.To <= part.From {
		return hook.UpstreamRange{}, errors.New(`event has a "to" that does not come after its "from"`)
	}
	return part, nil
}

// ProbeEvent makes the event with which healthprobe sends itself a part of all
// upstreams.
func ProbeEvent(part hook.UpstreamRange) []byte {
	raw, _ := json.Marshal(struct { // two strings are always JSON
		From string `json:"from,omitempty"`
		To   string `json:"to,omitempty"`
	}{part.From, part.To})
	return raw
}
