package admin

import (
	"crypto/rand"
	"fmt"
)

// randomID returns a UUID of version 4. Ids of hooks are not in the order of
// time, so that a range of them is as large as any other.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
