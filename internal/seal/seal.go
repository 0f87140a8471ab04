// Package seal encrypts documents so that only who has the key can read them,
// each in the one place it was sealed for: AES-256-GCM, with the place
// authenticated beside the document. A sealed document that was changed, cut
// off or put elsewhere does not open.
//
// Where keys come from is not its business.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// A sealed document is
//
//	version, 1 byte | key's id, 16 | nonce, 12 | ciphertext | tag, 16
//
// and what is authenticated beside it is the version, the key's id and the
// place. Nonces are random: one key is good for 2^32 documents.
const (
	version = 1
	header  = 1 + len(ID{})
	// Overhead is by how many bytes a sealed document is longer than the plain
	// one.
	Overhead = header + 12 + 16
)

// KeySize is the length of a key, in bytes.
const KeySize = 32

// ErrNoKey: what is sealed is read by a program that has no key at all.
var ErrNoKey = errors.New("it is sealed, and no key is set to open it with: set KMS_KEY_ARN (KmsKeyArn of template.yaml) to the KMS key it was sealed under")

// errForged is all that is told of a document that does not open.
var errForged = errors.New("it was changed, or sealed for another place")

// ID names a key. IDs are random, and no two keys have the same.
type ID [16]byte

// String returns the id in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String returns.
func ParseID(s string) (ID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(ID{}) {
		return ID{}, fmt.Errorf("%q is not a key's id", s)
	}
	return ID(b), nil
}

// Place is where a document is stored.
type Place struct{ Kind, ID, Field string }

// Key seals and opens documents. It is safe for concurrent use.
type Key struct {
	id   ID
	aead cipher.AEAD
}

// NewKey returns the key with that id and these KeySize bytes, which it copies.
func NewKey(id ID, secret []byte) (*Key, error) {
	if len(secret) != KeySize {
		return nil, fmt.Errorf("key %s has %d bytes, not %d", id, len(secret), KeySize)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Key{id, aead}, nil
}

// ID returns the key's id.
func (k *Key) ID() ID { return k.id }

// Seal returns the document sealed for its place.
func (k *Key) Seal(plain []byte, at Place) []byte {
	out := make([]byte, 0, len(plain)+Overhead)
	out = append(append(out, version), k.id[:]...)
	return k.aead.Seal(out, nil, plain, at.beside(out))
}

// Open reverses Seal. The error says nothing of the document.
func (k *Key) Open(sealed []byte, at Place) ([]byte, error) {
	id, err := KeyOf(sealed)
	if err != nil {
		return nil, err
	}
	if id != k.id {
		return nil, fmt.Errorf("it is sealed under key %s, not %s", id, k.id)
	}
	plain, err := k.aead.Open([]byte{}, nil, sealed[header:], at.beside(sealed[:header]))
	if err != nil {
		return nil, errForged
	}
	return plain, nil
}

// KeyOf returns the id of the key that a document is sealed under.
func KeyOf(sealed []byte) (ID, error) {
	switch {
	case len(sealed) > 0 && sealed[0] != version:
		return ID{}, fmt.Errorf("it is sealed in form %d, which is not known: deploy the newer version again", sealed[0])
	case len(sealed) < Overhead:
		return ID{}, errForged
	}
	return ID(sealed[1:header]), nil
}

// beside returns what is authenticated beside a document: its header and its
// place, each part with its length, so that no two places look the same.
func (p Place) beside(head []byte) []byte {
	out := append(make([]byte, 0, len(head)+len(p.Kind)+len(p.ID)+len(p.Field)+6), head...)
	for _, part := range []string{p.Kind, p.ID, p.Field} {
		out = append(binary.AppendUvarint(out, uint64(len(part))), part...)
	}
	return out
}
