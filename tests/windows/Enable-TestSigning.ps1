<#
.SYNOPSIS
Lets this test machine load drivers that are signed with the test certificate.

.DESCRIPTION
Puts the package's certificate into the machine's stores Root (so that its signature is valid) and
TrustedPublisher (so that installing asks nothing), and turns the boot option TESTSIGNING on. It
takes effect after a restart. Windows then loads any test-signed driver: use a machine, better a
virtual machine, that is for tests only.

Secure Boot must be off (and BitLocker suspended before it is turned off): with it Windows refuses
the option.

.PARAMETER Package
Folder of the package: what `cargo make` made, target\debug\parscan_package.

.PARAMETER Undo
Removes the certificate from both stores and turns the option off.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Enable-TestSigning.ps1 -Package ..\..\target\debug\parscan_package -WhatIf

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Enable-TestSigning.ps1 -Package C:\parscan_package -Undo
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)] [string] $Package,
    [switch] $Undo
)
. "$PSScriptRoot\common.ps1"
Assert-Administrator

$file = Join-Path $Package 'WDRLocalTestCert.cer'
if (-not (Test-Path -LiteralPath $file)) { throw "$file is not there: build the package with cargo make." }
$stores = 'Cert:\LocalMachine\Root', 'Cert:\LocalMachine\TrustedPublisher'

if ($Undo) {
    $path = (Resolve-Path -LiteralPath $file).ProviderPath
    $certificate = [Security.Cryptography.X509Certificates.X509Certificate2]::new($path)
    foreach ($store in $stores) {
        $entry = Join-Path $store $certificate.Thumbprint
        if (Test-Path -LiteralPath $entry) { Remove-Item -LiteralPath $entry }
    }
    $null = Invoke-Native bcdedit.exe @('/set', 'TESTSIGNING', 'OFF')
} else {
    $secure = $false
    # Fails on machines without UEFI, which have no Secure Boot.
    try { $secure = Confirm-SecureBootUEFI } catch { Write-Verbose "no Secure Boot: $_" }
    if ($secure) { throw 'Secure Boot is on. Turn it off in the firmware settings first.' }
    foreach ($store in $stores) {
        $null = Import-Certificate -FilePath $file -CertStoreLocation $store
    }
    $null = Invoke-Native bcdedit.exe @('/set', 'TESTSIGNING', 'ON')
}
Write-Output 'Restart the machine for the boot option to take effect.'
