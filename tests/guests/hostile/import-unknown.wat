;; Wants what plugins do not get.
;; -- imports
(import "acme:secrets/keys@1.0.0" (instance (export "all" (func (result string)))))
