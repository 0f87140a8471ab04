package action

import (
	"encoding/json"
	"fmt"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// MaxLogData bounds the data in a log line, in bytes of JSON: CloudWatch Logs
// takes events of 256 KB, the rest of the line included.
const MaxLogData = 200 << 10

// logLine is what a log hook writes: the one place where event data reaches a
// log. Kong's own line holds the event, source, data and pid.
type logLine struct {
	Level     string `json:"level"`
	Msg       string `json:"msg"`
	HookID    string `json:"hook_id"`
	EventID   string `json:"event_id"`
	Source    string `json:"source"`
	Event     string `json:"event"`
	Time      string `json:"time"` // of the event
	Data      any    `json:"data"` // an object; a string with its beginning when truncated
	Truncated bool   `json:"truncated,omitempty"`
	PID       int    `json:"pid,omitempty"`
}

// log writes the line of a log hook.
func (r *Runner) log(h hook.Hook, ev hook.Event) hook.Outcome {
	start := time.Now()
	line := logLine{
		Level: "NOTICE", Msg: "event hook",
		HookID: h.ID, EventID: ev.ID, Source: ev.Source, Event: ev.Event,
		Time: ev.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		Data: json.RawMessage(ev.Data), PID: r.o.PID,
	}
	if len(ev.Data) > MaxLogData {
		// Half an object is no JSON, so what is left of it is a string.
		line.Data, line.Truncated = cutData(ev.Data), true
	}
	b, err := strictjson.Encode(line)
	if err != nil {
		return unrendered(errData)
	}
	r.logging.Lock()
	defer r.logging.Unlock()
	if _, err := r.o.Log.Write(append(b, '\n')); err != nil {
		return hook.Outcome{Verdict: hook.Retryable, Took: time.Since(start), Error: fmt.Sprintf("write log line: %v", err)}
	}
	return hook.Outcome{Verdict: hook.Success, Took: time.Since(start)}
}

// cutData returns as much of the beginning of data as makes a JSON string of
// at most MaxLogData bytes.
func cutData(data []byte) string {
	room := MaxLogData - 2 // its quotes
	n := 0
	for ; n < len(data); n++ {
		switch c := data[n]; {
		case c == '"' || c == '\\':
			room -= 2
		case c < ' ' || c == 0xe2: // 0xe2 begins U+2028, which is escaped
			room -= 6
		default:
			room--
		}
		if room < 0 {
			break
		}
	}
	return string(wholeRunes(data[:n]))
}
