package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"eventhooks/internal/awstest"
)

// A storm of equal events costs one read and one write of a suppression row for
// each batch, however many events the batch has.
func TestLambda_aStormDoesNotMeltTheRow(t *testing.T) {
	awstest.DynamoDB(t) // builds are slow: not when there is no server
	const posts, events = 10, 1000
	for name, option := range map[string]string{
		"snoozed":   `"snooze":3600`,
		"unchanged": `"on_change":true`,
	} {
		t.Run(name, func(t *testing.T) {
			j, rows := newJudge(), &touched{}
			j.tap = rows.note
			c := launch(t, "storm", allBuilt(t), nil, j)
			r := newReceiver(t)
			c.mint()
			c.http("admin", "PUT", "/event-hooks/sources/shop/sold", `{"fields":["item"]}`, http.StatusCreated)
			hookID := c.http("admin", "POST", "/event-hooks", fmt.Sprintf(
				`{"source":"shop","event":"sold","handler":"webhook",%s,"config":{"url":%q}}`, option, r.URL), http.StatusCreated)["id"].(string)
			c.poll() // its ping
			one := `{"item":"tea"}`
			body := "[" + strings.Repeat(one+",", events-1) + one + "]"
			for range posts {
				if ids := acceptedIDs(c.invoke("ingest", c.postEvent("/events/shop/sold", body))); len(ids) != events {
					t.Fatalf("%d events were accepted; want %d", len(ids), events)
				}
			}
			rows.reset()

			deliver, _ := c.stack.Function("deliver")
			queue, most := "EventsQueue", deliver.Sources[0].Batch
			batches, reads, writes, worst := 0, 0, 0, 0
			for {
				msgs := c.receive(c.resources.Queues[queue], most)
				if len(msgs) == 0 {
					break
				}
				if n := c.batch(queue, msgs); n != len(msgs) {
					t.Errorf("%d of %d messages were handled", n, len(msgs))
				}
				batches++
				read, written := rows.reset()
				for _, n := range read {
					reads, worst = reads+n, max(worst, n)
				}
				for _, n := range written {
					writes, worst = writes+n, max(worst, n)
				}
			}
			if worst > 1 {
				t.Errorf("a batch reads or writes one row %d times; want once at most", worst)
			}
			t.Logf("%d events in %d batches: %d reads and %d writes of suppression rows", posts*events, batches, reads, writes)
			if writes == 0 {
				t.Error("no suppression row was written: nothing was looked at")
			}
			r.next(t)
			r.nothing(t)
			if name == "snoozed" {
				snoozes := c.http("admin", "GET", "/event-hooks/"+hookID+"/snoozes", "", http.StatusOK)["data"].([]any)
				if len(snoozes) != 1 || fmt.Sprint(snoozes[0].(map[string]any)["suppressed"]) != fmt.Sprint(posts*events-1) {
					t.Errorf("snoozes = %v; want one that counts %d", snoozes, posts*events-1)
				}
			}
		})
	}
}

// touched counts how often deliver reads and writes each suppression row.
type touched struct {
	mu             sync.Mutex
	reads, written map[string]int
}

// reset returns the counts since the last reset.
func (c *touched) reset() (reads, written map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reads, written = c.reads, c.written
	c.reads, c.written = map[string]int{}, map[string]int{}
	return reads, written
}

func (c *touched) note(call wireCall) {
	var body any
	if call.function != "deliver" || json.Unmarshal(call.request, &body) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reads == nil {
		c.reads, c.written = map[string]int{}, map[string]int{}
	}
	counts := c.written
	switch call.operation {
	case "GetItem", "BatchGetItem", "Query", "TransactGetItems":
		counts = c.reads
	}
	eachItem(body, func(pk, sk string) {
		if kind, _, _ := strings.Cut(pk, "#"); kind == "snooze" || kind == "change" {
			counts[kind+" row "+sk]++
		}
	})
}

// eachItem calls do for each item, or key of one, in a request.
func eachItem(v any, do func(pk, sk string)) {
	text := func(v any) (string, bool) {
		m, _ := v.(map[string]any)
		s, ok := m["S"].(string)
		return s, ok
	}
	switch v := v.(type) {
	case map[string]any:
		if pk, ok := text(v["pk"]); ok {
			sk, _ := text(v["sk"])
			do(pk, sk)
			return
		}
		for _, in := range v {
			eachItem(in, do)
		}
	case []any:
		for _, in := range v {
			eachItem(in, do)
		}
	}
}
