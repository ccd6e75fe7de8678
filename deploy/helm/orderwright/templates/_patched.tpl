{{/*
A resource of the base with what the chosen components do to it, as YAML. They say so in the patches of their
kustomization.yaml: a map is merged, a list has the steps of a JSON patch, of which those are known that are there.
Takes a list: the root, and the name of the file in the base.
*/}}
{{- define "orderwright.patched" -}}
{{- $root := index . 0 -}}
{{- $it := $root.Files.Get (printf "kubernetes/base/%s" (index . 1)) | fromYaml -}}
{{- range $component := $root.Values.components -}}
{{- $of := $root.Files.Get (printf "kubernetes/components/%s/kustomization.yaml" $component) | fromYaml -}}
{{- range $patch := $of.patches -}}
{{- if eq $patch.target.kind $it.kind -}}
{{- if hasPrefix "-" $patch.patch -}}
{{- range $step := fromYamlArray $patch.patch -}}
{{- $label := trimPrefix "/spec/template/metadata/labels/" $step.path -}}
{{- if and (eq $step.op "add") (eq $step.path "/spec/template/spec/containers/0/env/-") -}}
{{- $container := first $it.spec.template.spec.containers -}}
{{- $_ := set $container "env" (append $container.env $step.value) -}}
{{- else if and (eq $step.op "remove") (eq $step.path "/spec/replicas") -}}
{{- $_ := unset $it.spec "replicas" -}}
{{- else if and (eq $step.op "add") (ne $label $step.path) -}}
{{- $_ := set $it.spec.template.metadata.labels (replace "~1" "/" $label) $step.value -}}
{{- else -}}
{{- fail (printf "%s: the chart does not know the step %s %s" $component $step.op $step.path) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- $_ := mergeOverwrite $it (fromYaml $patch.patch) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $it -}}
{{- end -}}

{{- define "orderwright.settings" -}}
{{- .Values.settings | default (.Files.Get "kubernetes/base/orderwright.toml") -}}
{{- end -}}
