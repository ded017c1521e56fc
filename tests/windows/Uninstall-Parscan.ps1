<#
.SYNOPSIS
Removes parscan from this machine: both packages, and what Driver Verifier was told about it.

.DESCRIPTION
Deletes the packages with `pnputil /delete-driver oemN.inf /uninstall`. Their devices go to the next
best driver: parallel ports to Windows' own, scanners to their vendor's if it is still installed.
The certificate and the boot option stay: Enable-TestSigning.ps1 -Undo takes them back.

Exit code 0: no package and no running service of parscan is left. 1: something is.

.PARAMETER KeepVerifier
Leaves Driver Verifier's settings alone. They are for the whole machine.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Uninstall-Parscan.ps1 -WhatIf

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Uninstall-Parscan.ps1
#>
[CmdletBinding(SupportsShouldProcess)]
param([switch] $KeepVerifier)
. "$PSScriptRoot\common.ps1"
Assert-Administrator

if (-not (Remove-ParscanPackage)) { Write-Output 'No package of parscan is installed.' }
$null = Invoke-Native pnputil.exe @('/scan-devices')
if (-not $KeepVerifier) {
    # 2: restart needed, which is how it says that it has changed something.
    $null = Invoke-Native verifier.exe @('/reset') -Accept 0, 2
}
$left = @(Get-ParscanPackage)
$running = @(Get-Service -Name $ParscanPackages.Service -ErrorAction SilentlyContinue |
        Where-Object { $_.Status -ne 'Stopped' })
if (($left.Count -ne 0 -or $running.Count -ne 0) -and -not $WhatIfPreference) {
    $left | Format-Table -AutoSize | Out-Host
    $running | Format-Table -AutoSize | Out-Host
    Write-Warning 'Not everything is gone: close programs that use the devices, restart, and run this again.'
    exit 1
}
