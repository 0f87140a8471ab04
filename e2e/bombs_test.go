package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"eventhooks/internal/local"
)

// Functions and templates that would never end, or eat all memory, are failed
// attempts within four seconds, and the other hooks of the same events are told.
func TestBombs_onlyTheirOwnHooksFail(t *testing.T) {
	w := start(t, local.Options{})
	w.call("PUT", "/event-hooks/sources/shop/sold", `{"fields":["item"]}`, http.StatusCreated)
	r := newReceiver(t)
	bombs := map[string]string{}
	for name, body := range map[string]string{
		"a loop":               `while true do end`,
		"a pattern":            `return string.find(string.rep("a", 40), string.rep("a?", 40) .. string.rep("a", 40))`,
		"memory":               `local t = {} while true do t[#t + 1] = string.rep("x", 1000) .. #t end`,
		"calls without an end": `local function f() return f() end return f()`,
	} {
		function, err := json.Marshal("return function (data, event, source, pid) " + body + " end")
		if err != nil {
			t.Fatal(err)
		}
		bombs[name] = w.hook(fmt.Sprintf(`{"source":"shop","event":"sold","handler":"lambda","retry":{"max_attempts":1},"config":{"functions":[%s]}}`, function))
	}
	bombs["a template"] = w.hook(fmt.Sprintf(
		`{"source":"shop","event":"sold","handler":"webhook-custom","retry":{"max_attempts":1},"config":{"method":"POST","url":%q,"payload":{"text":"{%% while true do end %%}"}}}`, r.URL))
	healthy := w.hook(fmt.Sprintf(`{"source":"shop","event":"sold","handler":"webhook","config":{"url":%q}}`, r.URL))

	ids := w.post("/events/shop/sold", `[{"item":"tea"},{"item":"coffee"},{"item":"milk"}]`)
	for _, id := range ids {
		w.delivery(healthy, id, "delivered")
	}
	for name, hookID := range bombs {
		for _, id := range ids {
			row := w.delivery(hookID, id, "failed")
			attempts := row["attempts"].([]any)
			if len(attempts) != 1 {
				t.Errorf("%s: %d attempts; want 1", name, len(attempts))
				continue
			}
			if took, err := attempts[0].(map[string]any)["took_ms"].(json.Number).Int64(); err != nil || took > 4000 {
				t.Errorf("%s: the attempt took %d ms, %v; want at most 4,000", name, took, err)
			}
		}
	}
	// And the next one works.
	well := w.hook(`{"source":"shop","event":"closed","handler":"lambda","config":{"functions":["return function () return true end"]}}`)
	w.call("PUT", "/event-hooks/sources/shop/closed", `{}`, http.StatusCreated)
	w.delivery(well, w.post("/events/shop/closed", `{}`)[0], "delivered")
}
