package schema

import (
	"encoding/json"
	"math"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// Redelivery is what a request to redeliver many deliveries asks for.
type Redelivery struct {
	Status hook.Status // of the rows that are meant
	// SinceMS and UntilMS bound the time at which the events were received,
	// Unix milliseconds: the first is included, the second is not. Nothing
	// said is 0 and math.MaxInt64.
	SinceMS, UntilMS int64
	DryRun           bool // count only
}

func redeliveryFields(moment kind) []field {
	return []field{
		{name: "status", kind: text, def: string(hook.Failed), oneOf: []string{
			string(hook.Pending), string(hook.Delivered), string(hook.Failed), string(hook.Superseded),
		}},
		{name: "since", kind: moment},
		{name: "until", kind: moment},
		{name: "dry_run", kind: boolean, def: false},
	}
}

// RedeliveryForm reads redeliveries from forms.
func RedeliveryForm() Form { return Form{redeliveryFields(integer)} }

// NewRedelivery reads a request to redeliver. Errors are those of NewHook.
func NewRedelivery(doc []byte) (Redelivery, error) {
	members, err := strictjson.Object(doc, strictjson.Limits{})
	if err != nil {
		return Redelivery{}, err
	}
	var faults Faults
	o := readRecord(doc, redeliveryFields(ignored), &faults)
	complete(o, redeliveryFields(ignored), &faults)
	r := Redelivery{Status: hook.Status(o.text("status")), UntilMS: math.MaxInt64, DryRun: o.boolean("dry_run")}
	for _, m := range members {
		bound := &r.SinceMS
		switch {
		case m.Name == "until":
			bound = &r.UntilMS
		case m.Name != "since":
			continue
		}
		if strictjson.Kind(m.Value) == 'n' {
			continue
		}
		ms, ok := moment(m.Value)
		if !ok {
			faults.Add("expected a time: RFC 3339, or Unix seconds", m.Name)
			continue
		}
		*bound = ms
	}
	if faults.none() && r.SinceMS >= r.UntilMS {
		faults.Add("must be after since", "until")
	}
	return r, faults.Err()
}

// lastMoment is the last second of the year 9999, beyond which RFC 3339 has no
// times.
const lastMoment = 253402300799

// moment reads a time: a text as RFC 3339 has it, or a whole number of Unix
// seconds. It returns Unix milliseconds.
func moment(raw []byte) (ms int64, ok bool) {
	if s, isText := strictjson.String(raw); isText {
		t, err := time.Parse(time.RFC3339, s)
		return t.UnixMilli(), err == nil && t.Unix() >= 0 && t.Unix() <= lastMoment
	}
	var seconds float64
	if strictjson.Kind(raw) != '0' || json.Unmarshal(raw, &seconds) != nil {
		return 0, false
	}
	return int64(seconds) * 1000, seconds >= 0 && seconds <= lastMoment && seconds == math.Trunc(seconds)
}

// NoFields returns the faults of a document that should say nothing. Errors are
// those of NewHook.
func NoFields(doc []byte) error {
	if err := isObject(doc); err != nil {
		return err
	}
	var faults Faults
	readRecord(doc, nil, &faults)
	return faults.Err()
}

// ShownRedelivery is what came of a request to redeliver many.
type ShownRedelivery struct {
	Matched int `json:"matched"` // rows that are meant
	Queued  int `json:"queued"`  // of these, what is on its way again
	// Next is the path under which the same body goes on; null at the end.
	Next *string `json:"next"`
}
