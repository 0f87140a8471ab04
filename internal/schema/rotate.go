package schema

// Rotation is what a request to rotate a hook's secret asks for.
type Rotation struct {
	// Finish ends the grace of the last rotation, and makes no secret.
	Finish bool
}

func rotationFields() []field {
	return []field{{name: "finish", kind: boolean, def: false}}
}

// RotationForm reads rotations from forms.
func RotationForm() Form { return Form{rotationFields()} }

// NewRotation reads a request to rotate a secret. Errors are those of NewHook.
func NewRotation(doc []byte) (Rotation, error) {
	if err := isObject(doc); err != nil {
		return Rotation{}, err
	}
	var faults Faults
	o := readRecord(doc, rotationFields(), &faults)
	return Rotation{Finish: o.boolean("finish")}, faults.Err()
}

// ShownRotation is what a rotation made.
type ShownRotation struct {
	// Secret is the new one, in clear, this once; null when none was made.
	Secret *string `json:"secret"`
	// OldSecretUntil is until when the secret before it signs too, Unix
	// seconds; null when it does not.
	OldSecretUntil *int64 `json:"old_secret_until"`
}

// ShowRotation returns what a rotation made: "" and 0 for nothing.
func ShowRotation(secret string, until int64) ShownRotation {
	return ShownRotation{orNull(secret), orNull(until)}
}
