package hook

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Errors that cross package boundaries. Adapters wrap them; callers ask with
// errors.Is.
var (
	// ErrNotFound: nothing is stored under that key.
	ErrNotFound = errors.New("not found")
	// ErrExists: something is stored under that key already.
	ErrExists = errors.New("already exists")
	// ErrStale: what is stored is no longer what the caller read. The caller
	// reads again and decides anew, or stands back.
	ErrStale = errors.New("changed meanwhile")
	// ErrBusy: too many writers at once, nothing was written; try again later.
	ErrBusy = errors.New("too many writers at once")
)

// FieldErrors are the faults of a document, one message per field. A nested
// field is written with dots: "config.url". The key "@entity" holds a fault of
// the whole.
type FieldErrors map[string]string

// Error lists the faults as Kong does: one as "field: fault", several joined
// with "; " in the order of the fields' names.
func (e FieldErrors) Error() string {
	parts := make([]string, 0, len(e))
	for _, k := range slices.Sorted(maps.Keys(e)) {
		parts = append(parts, k+": "+e[k])
	}
	return strings.Join(parts, "; ")
}

// MaxFieldErrors bounds the faults that are noted of one document: an answer
// that repeats a stranger's names must not grow beyond what was sent.
const MaxFieldErrors = 100

// Add notes a fault of a field, unless one is noted already, or enough of
// others.
func (e FieldErrors) Add(field, format string, args ...any) {
	if _, ok := e[field]; !ok && len(e) < MaxFieldErrors {
		e[field] = fmt.Sprintf(format, args...)
	}
}

// OrNil returns e as an error, or nil when there are no faults.
func (e FieldErrors) OrNil() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// Conflict says which part of a write of several did not hold. It wraps
// ErrStale or ErrExists.
type Conflict struct {
	// Change is the index of the change, -1 when it was not a change.
	Change int
	// Row is the index of the delivery row, -1 when it was not a row.
	Row int
	Err error
}

func (c *Conflict) Error() string {
	switch {
	case c.Change >= 0:
		return fmt.Sprintf("change %d: %v", c.Change, c.Err)
	case c.Row >= 0:
		return fmt.Sprintf("row %d: %v", c.Row, c.Err)
	}
	return c.Err.Error()
}

func (c *Conflict) Unwrap() error { return c.Err }
