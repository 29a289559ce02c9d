{{/* The start of every name. */}}
{{- define "wiretape.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "wiretape.agent" -}}
{{- printf "%s-agent" (include "wiretape.fullname" .) -}}
{{- end -}}

{{- define "wiretape.hub" -}}
{{- printf "%s-hub" (include "wiretape.fullname" .) -}}
{{- end -}}

{{/* What pods are found by; never changed by an upgrade. */}}
{{- define "wiretape.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "wiretape.agentSelector" -}}
{{ include "wiretape.selector" . }}
app.kubernetes.io/component: agent
{{- end -}}

{{- define "wiretape.hubSelector" -}}
{{ include "wiretape.selector" . }}
app.kubernetes.io/component: hub
{{- end -}}

{{/* What every object bears besides. */}}
{{- define "wiretape.labels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: wiretape
{{- end -}}

{{/* Takes [root, name of the image]. */}}
{{- define "wiretape.image" -}}
{{- $root := index . 0 -}}
{{- $image := printf "%s:%s" (index . 1) ($root.Values.image.tag | default $root.Chart.AppVersion) -}}
{{- with $root.Values.image.registry -}}{{- printf "%s/%s" (trimSuffix "/" .) $image -}}{{- else -}}{{- $image -}}{{- end -}}
{{- end -}}

{{- define "wiretape.agentPriorityClass" -}}
{{- .Values.agent.priorityClass.name | default (.Values.agent.priorityClass.create | ternary (include "wiretape.agent" .) "") -}}
{{- end -}}

{{- define "wiretape.metricsFrom" -}}
{{- if .Values.networkPolicy.metricsFrom -}}
{{- toYaml .Values.networkPolicy.metricsFrom -}}
{{- else if .Values.monitoring.serviceMonitor.enabled -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ .Values.openshift.enabled | ternary "openshift-user-workload-monitoring" "monitoring" }}
{{- end -}}
{{- end -}}

{{/* A list, in YAML, of all that the agent is given. */}}
{{- define "wiretape.agentCapabilities" -}}
{{- $more := list -}}
{{- if eq .Values.agent.interfaces "pods" -}}{{- $more = append $more "SYS_ADMIN" -}}{{- end -}}
{{- if or .Values.agent.ptrace (eq .Values.agent.interfaces "pods") -}}{{- $more = append $more "SYS_PTRACE" -}}{{- end -}}
{{- concat .Values.agent.capabilities $more | toYaml -}}
{{- end -}}
