package hook_test

import (
	"fmt"
	"testing"

	"eventhooks/internal/hook"
)

func TestFieldErrors_Add(t *testing.T) {
	e := hook.FieldErrors{}
	for i := range 35_000 {
		e.Add(fmt.Sprintf("field%d", i), "unknown field")
	}
	e.Add("field0", "something else")
	if len(e) != hook.MaxFieldErrors || e["field0"] != "unknown field" || e["field99"] == "" {
		t.Errorf("%d faults, the first %q; want the first %d, each as it was noted first", len(e), e["field0"], hook.MaxFieldErrors)
	}
}
