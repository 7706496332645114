package mitm

import (
	"errors"
	"fmt"
	"net"
	"reflect"
)

// alert is the description of a TLS alert (RFC 8446 section 6).
type alert uint8

const (
	alertHandshakeFailure alert = 40
	alertBadCertificate   alert = 42
	alertUnsupportedCert  alert = 43
	alertCertRevoked      alert = 44
	alertCertExpired      alert = 45
	alertCertUnknown      alert = 46
	alertUnknownCA        alert = 48
	alertAccessDenied     alert = 49
	alertDecryptError     alert = 51
	alertBadCertStatus    alert = 113
	alertECHRequired      alert = 121
	alertCertRequired     alert = 116
)

var alertNames = map[alert]string{
	0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow",
	40: "handshake_failure", 42: "bad_certificate", 43: "unsupported_certificate",
	44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown",
	47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error",
	51: "decrypt_error", 70: "protocol_version", 71: "insufficient_security",
	80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled",
	109: "missing_extension", 110: "unsupported_extension", 112: "unrecognized_name",
	113: "bad_certificate_status_response", 115: "unknown_psk_identity",
	116: "certificate_required", 120: "no_application_protocol", 121: "ech_required",
}

func (a alert) String() string {
	if s, ok := alertNames[a]; ok {
		return s
	}
	return fmt.Sprintf("alert %d", uint8(a))
}

// aboutCertificate tells the alerts by which a client says that it does not
// accept a certificate, or that we are not the server it has ECH keys of.
func (a alert) aboutCertificate() bool {
	switch a {
	case alertBadCertificate, alertUnsupportedCert, alertCertRevoked, alertCertExpired,
		alertCertUnknown, alertUnknownCA, alertAccessDenied, alertDecryptError, alertBadCertStatus, alertECHRequired:
		return true
	}
	return false
}

// record returns the fatal alert as a record in the clear.
func (a alert) record() []byte {
	return []byte{recordAlert, 3, 3, 0, 2, 2, byte(a)}
}

// alertOf returns the alert that the peer sent, if err of crypto/tls is one.
// Its type is not exported; tls.AlertError is for QUIC only.
func alertOf(err error) (alert, bool) {
	return alertIn(err, "remote error")
}

// ownAlertOf returns the alert that crypto/tls sent, if err says so.
func ownAlertOf(err error) (alert, bool) { return alertIn(err, "local error") }

func alertIn(err error, operation string) (alert, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != operation {
		return 0, false
	}
	if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
		return alert(v.Uint()), true
	}
	return 0, false
}
